"""A job that forks makes no second worker."""

from collections import Counter
from pathlib import Path

import psutil

from callboard.jobs.model.states import JobState
from tests.e2e.stage import Stage, until


def test_a_copy_that_a_job_forks_runs_no_other_job_and_is_gone_when_the_jobs_code_ends(stage: Stage) -> None:
    worker = stage.worker(processes=1)
    forks = [stage.enqueue("forks", way=way) for way in ("return", "exit", "raise") for _ in range(2)]
    others = [stage.enqueue("ledger", n=n) for n in range(60)]
    stage.start("scheduler")
    ends = [stage.platform.waiting.wait(job, None) for job in forks]
    assert [(end.state, end.result) for end in ends] == [
        (JobState.SUCCEEDED, code) for code in (0, 0, 7, 7, 1, 1)
    ]
    for job in others:
        assert stage.platform.waiting.wait(job, None).state is JobState.SUCCEEDED
    ran = Counter(Path(stage._ledger).read_text().split())
    assert {ran[str(job)] for job in others} == {1}
    # the child and the fork server; no copies
    until(lambda: len(psutil.Process(worker.pid).children(recursive=True)) <= 2)


def test_a_job_that_waits_for_its_fork_is_still_killed_at_its_hard_timeout(stage: Stage) -> None:
    stage.worker(processes=1)
    job = stage.enqueue_with("forks", {"way": "return", "then": 60.0}, hard_timeout="1s", max_attempts=1)
    end = stage.platform.waiting.wait(job, None)
    assert (end.state, end.crash_count) == (JobState.FAILED, 0)
