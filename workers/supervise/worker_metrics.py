"""The metrics of a worker: those of the supervisor and of all its children, served at one address."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

#: The folder of the children's metrics. The name is prometheus_client's; children inherit the variable.
_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def serving(host: str, port: int) -> Iterator[None]:
    """Serve `GET /metrics` during the block, with the children that start in it. Port 0 takes a free port."""
    with tempfile.TemporaryDirectory(prefix="callboard-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[_FOLDER] = folder
        registry = CollectorRegistry()
        registry.register(WorkerMetrics(Path(folder)))
        server, thread = start_http_server(port, host, registry)
        log.info("metrics.serving", host=host, port=server.server_port)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class WorkerMetrics(Collector):
    """The sums of the metrics of all children, dead ones too, and of the supervisor itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        own = {family.name: family for family in REGISTRY.collect() if family.samples}
        # A child that is starting has empty files, which the library cannot read.
        files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size]
        for family in MultiProcessCollector.merge(files):  # type: ignore[no-untyped-call]
            yield _sum(family, own.pop(family.name, None))
        yield from own.values()


def _sum(children: Metric, own: Metric | None) -> Metric:
    """Return the sum of two families of one name, without `_created`, which children do not report."""
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
