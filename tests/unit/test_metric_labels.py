"""The number of label sets of a metric has a limit; what is beyond it is counted as (other)."""

import threading
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from callboard.config.exposition import expose
from callboard.jobs.metric_labels import MAX_LABEL_SETS, OTHER, Bounded, GaugeTable
from tests.samples import series

HOSTILE = [
    '"',
    "\\",
    "a\nb",
    'a",x="b',
    "\r",
    "ü",
    "\u2028",
    "\ud800",
    "\x00",
    "",
    "{}",
    "# EOF",
    "a\\",
    "🦜" * 50,
]


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def finished(registry):
    counter = Counter("finished_total", "Attempts.", ["queue", "outcome"], registry=registry)
    return Bounded(counter, fixed=["outcome"])


@pytest.fixture
def depth() -> Iterator[GaugeTable]:
    table = GaugeTable("depth", "Jobs.", ["queue", "state"], fixed=["state"])
    yield table
    REGISTRY.unregister(table)


def test_at_most_200_label_sets_are_counted_and_nothing_is_lost(finished, registry):
    for number in range(5_000):
        finished.labels(f"queue-{number}", "succeeded").inc()
        finished.labels(f"queue-{number}", "failed").inc(2)
    found = series("finished_total", registry)
    assert len(found) <= MAX_LABEL_SETS
    assert sum(found.values()) == 15_000
    assert found[("failed", OTHER)] == 2 * found[("succeeded", OTHER)]


def test_the_label_sets_that_came_first_stay(finished, registry):
    finished.labels("first", "succeeded").inc()
    for number in range(1_000):
        finished.labels(f"queue-{number}", "succeeded").inc()
    finished.labels("first", "succeeded").inc()
    assert series("finished_total", registry)[("succeeded", "first")] == 2


def test_a_fixed_label_with_too_many_values_is_bounded_too(finished, registry):
    for number in range(5_000):
        finished.labels(f"queue-{number}", f"outcome-{number}").inc()
    found = series("finished_total", registry)
    assert len(found) <= MAX_LABEL_SETS
    assert sum(found.values()) == 5_000


def test_a_metric_with_only_fixed_labels_is_bounded_as_well(registry):
    counter = Counter("errors_total", "Errors.", ["store", "kind"], registry=registry)
    errors = Bounded(counter, fixed=["store", "kind"])
    errors.labels("redis", "push").inc()
    for number in range(1_000):
        errors.labels("postgres", f"kind-{number}").inc()
    found = series("errors_total", registry)
    assert found[("push", "redis")] == 1
    assert len(found) == MAX_LABEL_SETS
    assert sum(found.values()) == 1_001


def test_threads_that_count_at_the_same_time_do_not_exceed_the_limit(registry):
    counter = Bounded(Counter("seen_total", "Seen.", ["queue"], registry=registry))

    def count(start: int) -> None:
        for number in range(start, start + 400):
            counter.labels(f"queue-{number}").inc()

    threads = [threading.Thread(target=count, args=(start,)) for start in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = series("seen_total", registry)
    assert len(found) == MAX_LABEL_SETS
    assert sum(found.values()) == 3_200


def test_a_gauge_shows_the_largest_values_and_the_sum_of_the_rest(depth):
    values = {(f"queue-{n}", state): float(n) for n in range(5_000) for state in ("queued", "running")}
    depth.replace(values)
    found = series("depth")
    assert len(found) <= MAX_LABEL_SETS
    assert sum(found.values()) == sum(values.values())
    assert found[("queue-4999", "queued")] == 4_999
    assert found[(OTHER, "queued")] == found[(OTHER, "running")]


def test_a_gauge_of_what_is_gone_disappears(depth):
    depth.replace({("mail", "queued"): 1.0, ("reports", "queued"): 2.0})
    depth.replace({("reports", "queued"): 0.0})
    assert series("depth") == {("reports", "queued"): 0.0}
    depth.clear()
    assert series("depth") == {}


@pytest.mark.parametrize(("rest", "shown", "other"), [(max, 999.0, 800.0), (min, 0.0, 199.0)])
def test_the_rest_of_a_gauge_is_combined_as_it_asks(rest, shown, other):
    table = GaugeTable("age_seconds", "Age.", ["queue"], rest=rest)
    try:
        table.replace({(f"queue-{number}",): float(number) for number in range(1_000)})
        found = series("age_seconds")
    finally:
        REGISTRY.unregister(table)
    assert found[(f"queue-{shown:.0f}",)] == shown
    assert found[(OTHER,)] == other
    assert len(found) == MAX_LABEL_SETS


def test_hostile_names_leave_a_text_that_parses_in_both_formats(registry):
    counter = Bounded(Counter("seen_total", "Seen.", ["queue", "job_name"], registry=registry))
    timing = Bounded(Histogram("took_seconds", "Took.", ["queue"], registry=registry))
    for name in HOSTILE:
        counter.labels(name, name).inc()
        timing.labels(name).observe(0.1)
    wanted = {name.encode(errors="backslashreplace").decode() for name in HOSTILE}
    plain = expose(registry, accept="", accept_encoding="").body.decode()
    named = {
        each.labels["queue"]
        for family in text_string_to_metric_families(plain)
        for each in family.samples
        if each.name == "seen_total"
    }
    assert named == wanted
    named = {
        each.labels["queue"]
        for family in openmetrics_families(openmetrics_text(registry).decode())
        for each in family.samples
        if each.name == "seen_total"
    }
    assert named == wanted
