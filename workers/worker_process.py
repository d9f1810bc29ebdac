"""`callboard run worker`: the supervisor and its children. Its composition root."""

import os
import sys
from contextlib import ExitStack

from callboard.config.embedded import ServerUrls
from callboard.config.settings import Settings, sqlalchemy_url
from callboard.jobs.platform import Platform
from callboard.workers.supervise import counts
from callboard.workers.supervise.supervisor import Supervisor


def run(settings: Settings, urls: ServerUrls) -> int:
    """Run jobs until SIGTERM or SIGINT; returns the exit code."""
    _make_importable(os.getcwd())  # noqa: PTH109 - sys.path takes text
    platform = Platform(
        sqlalchemy_url(urls.database_url), urls.redis_url, lease=settings.lease_ttl, pool_size=2,
        application="callboard supervisor",
    )  # fmt: skip
    with ExitStack() as opened:
        opened.callback(platform.close)
        if settings.metrics_port is not None:
            opened.enter_context(counts.serving(settings.metrics_host, settings.metrics_port))
        return Supervisor(settings, urls.database_url, urls.redis_url, platform).run()


def _make_importable(folder: str) -> None:
    """Let job modules of the working directory be found; last, so that they shadow nothing of ours."""
    if folder not in sys.path:
        sys.path.append(folder)
