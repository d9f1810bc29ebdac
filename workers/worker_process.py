"""`callboard run worker`: the process of the supervisor, which starts the children."""

import os
import sys
from contextlib import ExitStack

from callboard.config.embedded import ServerUrls
from callboard.config.settings import Settings, sqlalchemy_url
from callboard.jobs.platform import Platform
from callboard.workers.supervise.supervisor import Supervisor
from callboard.workers.supervise.worker_metrics import serving_children


def run(settings: Settings, urls: ServerUrls) -> int:
    """Run jobs until SIGTERM or SIGINT; return the exit code."""
    _make_importable(os.getcwd())  # noqa: PTH109 - sys.path takes text
    platform = Platform(
        sqlalchemy_url(urls.direct_url), urls.redis_url, lease=settings.lease_ttl, pool_size=2,
        application="callboard supervisor", schema=settings.schema_name, allow_pooler=False,
    )  # fmt: skip
    with ExitStack() as opened:
        opened.callback(platform.close)
        platform.database.refuse_pooler()
        if settings.metrics_port is not None:
            opened.enter_context(serving_children(settings.metrics_host, settings.metrics_port))
        return Supervisor(settings, urls.direct_url, urls.redis_url, platform).run()


def _make_importable(folder: str) -> None:
    """Make job modules in the working directory importable.

    The folder is last, so it shadows no other module.
    """
    if folder not in sys.path:
        sys.path.append(folder)
