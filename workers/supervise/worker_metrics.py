"""The metrics of a worker: those of the supervisor and of all its children, served at one address."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from callboard.config.metrics_server import serving
from callboard.jobs.metric_labels import LabelSets, bounded
from callboard.workers.supervise.metric_files import MetricFiles

#: The folder of the children's metrics. The name is prometheus_client's; children inherit the variable.
_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def serving_children(host: str, port: int) -> Iterator[None]:
    """Serve `GET /metrics` during the block, with the children that start in it. Port 0 takes a free port."""
    with tempfile.TemporaryDirectory(prefix="callboard-metrics-", ignore_cleanup_errors=True) as folder:
        registry = CollectorRegistry()
        registry.register(WorkerMetrics(Path(folder)))
        with serving(host, port, registry):
            os.environ[_FOLDER] = folder
            yield


class WorkerMetrics(Collector):
    """The sums of the metrics of all children, dead ones too, and of the supervisor itself.

    Each child has at most 200 label sets of a metric, but not the same as other children. So the sums have a
    limit again.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = Lock()
        #: By the name of a bounded metric: the label sets that are shown.
        self._label_sets: dict[str, LabelSets] = {}
        self._files = MetricFiles(folder, self._admitted)

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            own = {family.name: family for family in REGISTRY.collect() if family.samples}
            merged = MultiProcessCollector.merge(self._files.read())  # type: ignore[no-untyped-call]
            families = [self._sum(family, own.pop(family.name, None)) for family in merged]
        yield from families
        yield from own.values()

    def _sum(self, children: Metric, own: Metric | None) -> Metric:
        """Return the sum of two families of one name, without `_created`, which children do not report."""
        if bounded(children.name) is None and (own is None or children.type == "gauge"):
            # Gauges are no counts: the newest value counts.
            return children
        values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for sample in (*(own.samples if own else ()), *children.samples):
            if not sample.name.endswith("_created"):
                labels = self._admitted(children.name, sample.labels)
                series = (sample.name, tuple(sorted(labels.items())))
                values[series] = values.get(series, 0.0) + sample.value
        total = Metric(children.name, children.documentation, children.type)
        for (name, pairs), value in values.items():
            total.add_sample(name, dict(pairs), value)
        return total

    def _admitted(self, family: str, labels: dict[str, str]) -> dict[str, str]:
        """Return the labels under which a sample is shown. Only bounded metrics have a limit."""
        metric = bounded(family)
        if metric is None:
            return labels
        sets = self._label_sets.get(family)
        if sets is None:
            sets = self._label_sets[family] = metric.new_sets()
        values = tuple(labels[name] for name in metric.names)
        admitted = sets.admit(values)
        return labels if admitted == values else {**labels, **dict(zip(metric.names, admitted, strict=True))}
