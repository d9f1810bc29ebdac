"""`callboard run worker`: the process of the supervisor, which starts the children."""

import sys
from contextlib import ExitStack
from pathlib import Path

from callboard.config.embedded import ServerUrls
from callboard.config.module_folders import module_folders
from callboard.config.settings import Settings, sqlalchemy_url
from callboard.workers.supervise.fork_client import ForkClient


def run(settings: Settings, urls: ServerUrls) -> int:
    """Run jobs until SIGTERM or SIGINT; return the exit code."""
    sys.path += [each for each in module_folders(Path.cwd()) if each not in sys.path]
    with ExitStack() as opened:
        if settings.metrics_port is not None:
            from callboard.workers.supervise.worker_metrics import serving_children

            opened.enter_context(serving_children(settings.metrics_host, settings.metrics_port))
        server = ForkClient(wanted=settings.fork_server)
        opened.callback(server.stop)
        server.start()
        # Only now: the fork server loads its modules at the same time.
        from callboard.jobs.platform import Platform
        from callboard.workers.supervise.supervisor import Supervisor

        platform = Platform(
            sqlalchemy_url(urls.direct_url), urls.redis_url, lease=settings.lease_ttl, pool_size=2,
            application="callboard supervisor", schema=settings.schema_name, allow_pooler=False,
        )  # fmt: skip
        opened.callback(platform.close)
        platform.database.refuse_pooler()
        return Supervisor(settings, urls.direct_url, urls.redis_url, platform, server).run()
