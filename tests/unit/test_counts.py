"""What children have counted is read at any moment of theirs."""

import os
import subprocess
import sys
from pathlib import Path

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


def child_counts(folder: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", CHILD], env=environment, check=True)


def test_children_and_their_supervisor_are_counted_together(tmp_path):
    before = counted(tmp_path)
    JOB_RESCUES.labels(QUEUE).inc()
    assert counted(tmp_path) == before + 1
    child_counts(tmp_path)
    child_counts(tmp_path)
    assert counted(tmp_path) == before + 7


def test_a_child_whose_files_have_nothing_in_them_yet_is_passed_over(tmp_path):
    child_counts(tmp_path)
    before = counted(tmp_path)
    (tmp_path / "counter_1.db").touch()  # opened, and not yet given its length
    (tmp_path / "counter_2.db").write_bytes(bytes(1 << 16))  # given its length, and not yet begun
    assert counted(tmp_path) == before
