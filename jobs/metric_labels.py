"""Metrics with a limited number of label sets. What is beyond the limit is counted as `(other)`.

The names of queues, jobs and webhook sources come from users, so there can be any number of them. Each label
set is a line of every scrape, and a series that Prometheus keeps for weeks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Final, Generic, TypeVar

from prometheus_client import REGISTRY, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

M = TypeVar("M", bound=MetricWrapperBase)
Labels = tuple[str, ...]

#: The largest number of label sets of one metric in one process, those with OTHER included.
MAX_LABEL_SETS: Final = 200
OTHER: Final = "(other)"
#: This many label sets are kept free for OTHER, if the metric has labels that keep their values.
_ROOM: Final = 20


class LabelSets:
    """Admits label sets until the metric has enough. Later ones get OTHER in place of their names.

    The first ones stay: a series of a counter that came and went would look like a counter that was reset.

    fixed: the labels with few possible values, such as an outcome. They keep their values beside OTHER.
    """

    def __init__(self, names: Sequence[str], fixed: Iterable[str] = ()) -> None:
        kept = frozenset(fixed)
        self._is_fixed = [name in kept for name in names]
        if all(self._is_fixed):
            # There is no name to replace, so a label set that comes too late loses all its values.
            self._is_fixed = [False] * len(names)
        self._all_other = (OTHER,) * len(names)
        self._room = _ROOM if any(self._is_fixed) else 1
        self._admitted: set[Labels] = set()
        self._others: set[Labels] = {self._all_other}

    def admit(self, values: Labels) -> Labels:
        """Return the label set under which these values are counted."""
        if values in self._admitted:
            return values
        other = tuple(value if fixed else OTHER for value, fixed in zip(values, self._is_fixed, strict=True))
        if values != other and len(self._admitted) < MAX_LABEL_SETS - self._room:
            self._admitted.add(values)
            return values
        if other not in self._others:
            if len(self._others) == self._room:
                return self._all_other
            self._others.add(other)
        return other


class Bounded(Generic[M]):
    """A counter or a histogram with at most MAX_LABEL_SETS label sets. Looking up a series is cheap."""

    def __init__(self, metric: M, *, fixed: Sequence[str] = ()) -> None:
        self._metric = metric
        [family] = metric.describe()
        self.names: Final[Labels] = metric._labelnames  # noqa: SLF001 - they have no public name
        self._fixed = fixed
        self._sets = self.new_sets()
        self._lock = Lock()
        #: By the values as they were given. Values that became OTHER are not in it: there may be millions.
        self._series: dict[Labels, M] = {}
        _bounded[family.name] = self

    def labels(self, *values: str) -> M:
        """Return the series of this label set, or that of `(other)` when there are enough label sets."""
        found = self._series.get(values)
        return self._find(values) if found is None else found

    def new_sets(self) -> LabelSets:
        """Return a limit like that of this metric, which has admitted nothing."""
        return LabelSets(self.names, self._fixed)

    def _find(self, values: Labels) -> M:
        with self._lock:
            admitted = self._sets.admit(values)
            found = self._series.get(admitted)
            if found is None:
                found = self._series[admitted] = self._metric.labels(*map(_storable, admitted))
            return found


#: Every bounded metric of this process by the name of its family.
_bounded: Final[dict[str, Bounded[Any]]] = {}


def bounded(family: str) -> Bounded[Any] | None:
    """Return the bounded metric of this name (without `_total`); None when there is none."""
    return _bounded.get(family)


class GaugeTable(Collector):
    """A gauge whose label sets are replaced all at once. A label set that is not given again disappears.

    At most MAX_LABEL_SETS are shown: the largest values. The others become one value as `(other)`.

    rest: makes that value: sum, max or min. With min, the smallest values are shown.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        names: Sequence[str],
        *,
        fixed: Sequence[str] = (),
        rest: Callable[[Iterable[float]], float] = sum,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._names = names
        self._fixed = fixed
        self._rest = rest
        self._values: Mapping[Labels, float] = {}
        REGISTRY.register(self)

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Show these values, by label set, and no others."""
        sign = 1 if self._rest is min else -1
        sets = LabelSets(self._names, self._fixed)
        groups: defaultdict[Labels, list[float]] = defaultdict(list)
        if len(values) <= MAX_LABEL_SETS:
            self._values = dict(values)
            return
        for labels, value in sorted(values.items(), key=lambda item: (sign * item[1], item[0])):
            groups[sets.admit(labels)].append(value)
        self._values = {labels: self._rest(group) for labels, group in groups.items()}

    def clear(self) -> None:
        """Show no values."""
        self._values = {}

    def describe(self) -> Iterator[Metric]:
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for labels, value in self._values.items():
            family.add_metric([_storable(each) for each in labels], value)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self._names)


def _storable(value: str) -> str:
    """Return the text without lone surrogates: they would make the whole scrape fail."""
    return value.encode(errors="backslashreplace").decode()
