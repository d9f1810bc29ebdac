"""`callboard run worker`: the supervisor and its children. Its composition root."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from config.embedded import ServerUrls
from config.settings import Settings, sqlalchemy_url
from jobs.platform import Platform
from workers.supervisor import Supervisor

log = structlog.get_logger(__name__)

#: Where the children leave their counts for the supervisor to serve (prometheus_client's own convention).
_COUNTS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"


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
            opened.enter_context(_metrics(settings.metrics_host, settings.metrics_port))
        return Supervisor(settings, urls.database_url, urls.redis_url, platform).run()


def _make_importable(folder: str) -> None:
    """Let job modules of the working directory be found; last, so that they shadow nothing of ours."""
    if folder not in sys.path:
        sys.path.append(folder)


def _metrics(host: str, port: int) -> ExitStack:
    """Serve the children's counts and our own until closed."""
    opened = ExitStack()
    folder = opened.enter_context(
        tempfile.TemporaryDirectory(prefix="callboard-metrics-", ignore_cleanup_errors=True)
    )
    os.environ[_COUNTS_FOLDER] = folder
    registry = CollectorRegistry()
    registry.register(_Counts(registry, folder))
    server, thread = start_http_server(port, host, registry)
    opened.callback(thread.join)
    opened.callback(server.shutdown)
    log.info("metrics.serving", host=host, port=server.server_port)
    return opened


class _Counts(Collector):
    """What all children have counted, dead ones too, together with what the supervisor counts itself."""

    def __init__(self, registry: CollectorRegistry, folder: str) -> None:
        self._children = MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        own = {family.name: family for family in REGISTRY.collect() if family.samples}
        for family in self._children.collect():  # type: ignore[no-untyped-call]
            yield _sum(family, own.pop(family.name, None))
        yield from own.values()


def _sum(children: Metric, own: Metric | None) -> Metric:
    """One family out of two of the same name; when a series began is not kept, as the children do not say it."""
    if own is None:
        return children
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in (*children.samples, *own.samples):
        if not sample.name.endswith("_created"):
            series = (sample.name, tuple(sorted(sample.labels.items())))
            values[series] = values.get(series, 0.0) + sample.value
    total = Metric(children.name, children.documentation, children.type)
    for (name, labels), value in values.items():
        total.add_sample(name, dict(labels), value)
    return total
