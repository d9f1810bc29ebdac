"""What children have counted is read at any moment of theirs."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Metric

from callboard.jobs.metric_labels import MAX_LABEL_SETS, OTHER
from callboard.jobs.metrics import JOB_RESCUES
from callboard.workers.supervise.worker_metrics import WorkerMetrics

QUEUE = "counts of children"
CHILD = f"from callboard.jobs.metrics import JOB_RESCUES; JOB_RESCUES.labels({QUEUE!r}).inc(3)"


def counted(folder: Path) -> float:
    return sum(
        sample.value
        for family in WorkerMetrics(folder).collect()
        for sample in family.samples
        if sample.name == "callboard_job_rescues_total" and sample.labels == {"queue": QUEUE}
    )


def child_counts(folder: Path, program: str = CHILD) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_children_and_their_supervisor_are_counted_together(tmp_path):
    before = counted(tmp_path)
    JOB_RESCUES.labels(QUEUE).inc()
    assert counted(tmp_path) == before + 1
    child_counts(tmp_path)
    child_counts(tmp_path)
    assert counted(tmp_path) == before + 7


MANY = """
from callboard.jobs.metrics import JOB_RESCUES, JOB_WAIT
from prometheus_client import Counter, Gauge
for number in range({start}, {start} + 150):
    JOB_RESCUES.labels(f"queue-{{number}}").inc()
    JOB_WAIT.labels(f"queue-{{number}}").observe_many([0.1, 0.2])
Counter("of_a_job_total", "A counter of the user's own.", ["x"]).labels("{start}").inc(2)
Gauge("all_of_a_job", "In every process.").set(1)
Gauge("most_of_a_job", "The largest.", multiprocess_mode="max").set({start})
Gauge("last_of_a_job", "The latest.", multiprocess_mode="mostrecent").set({start})
"""


def values(families: Iterable[Metric], name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def test_the_counts_of_many_dead_children_have_a_limit_and_nothing_is_lost(tmp_path):
    metrics = WorkerMetrics(tmp_path)
    for start in range(0, 900, 150):
        child_counts(tmp_path, MANY.format(start=start))
        families = list(metrics.collect())
    waits = values(families, "callboard_job_wait_seconds_count")
    assert len(waits) <= MAX_LABEL_SETS
    assert sum(waits.values()) == 1_800
    assert waits[(("queue", OTHER),)] == 1_800 - 2 * (MAX_LABEL_SETS - 1)
    infinite = values(families, "callboard_job_wait_seconds_bucket")
    assert infinite[(("le", "+Inf"), ("queue", OTHER))] == waits[(("queue", OTHER),)]
    assert infinite[(("le", "0.1"), ("queue", OTHER))] == waits[(("queue", OTHER),)] / 2


def test_a_series_of_dead_children_never_goes_backwards(tmp_path):
    metrics = WorkerMetrics(tmp_path)
    before: dict[tuple[tuple[str, str], ...], float] = {}
    for start in (0, 450, 150, 0, 300):
        child_counts(tmp_path, MANY.format(start=start))
        now = values(metrics.collect(), "callboard_job_rescues_total")
        assert {key: value for key, value in before.items() if now[key] < value} == {}
        before = now


def test_the_files_of_dead_children_do_not_pile_up(tmp_path):
    metrics = WorkerMetrics(tmp_path)
    for start in (0, 0, 150):
        child_counts(tmp_path, MANY.format(start=start))
    families = list(metrics.collect())
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"counter_0.db", "histogram_0.db", "gauge_max_0.db", "gauge_mostrecent_0.db"}
    assert values(families, "of_a_job_total") == {(("x", "0"),): 4.0, (("x", "150"),): 2.0}
    assert values(families, "most_of_a_job") == {(): 150.0}
    assert values(families, "last_of_a_job") == {(): 150.0}
    assert values(families, "all_of_a_job") == {}
    assert values(metrics.collect(), "of_a_job_total") == values(families, "of_a_job_total")


def test_the_files_of_a_living_child_are_left_alone(tmp_path):
    child_counts(tmp_path)
    [path] = [path for path in tmp_path.iterdir() if path.name.startswith("counter")]
    living = path.rename(tmp_path / f"counter_{os.getpid()}.db")
    before = counted(tmp_path)
    assert living.exists()
    assert counted(tmp_path) == before


def test_a_child_whose_files_have_nothing_in_them_yet_is_passed_over(tmp_path):
    child_counts(tmp_path)
    before = counted(tmp_path)
    (tmp_path / "counter_1.db").touch()  # opened, and not yet given its length
    (tmp_path / "counter_2.db").write_bytes(bytes(1 << 16))  # given its length, and not yet begun
    assert counted(tmp_path) == before
