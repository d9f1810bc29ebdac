"""Whatever a job does to its worker, the worker tells the truth about it and goes on."""

import shutil
from datetime import timedelta
from uuid import UUID

import pytest

from callboard.jobs.errors import WaitTimeout
from callboard.jobs.model.job import Job
from tests.e2e.hostile_jobs.cases import CASES
from tests.e2e.stage import HERE, Process, Stage, until

#: Good jobs of each kind after a hostile one.
GOOD = 100
#: So many cases at once in the test that always runs.
GROUP = 12


@pytest.fixture
def worker(stage: Stage) -> Process:
    shutil.copytree(HERE / "hostile_jobs", stage.folder / "hostile_jobs")
    stage.start("scheduler")
    return stage.worker(jobs="hostile_jobs", threads=4)


def test_hostile_jobs_together_end_as_what_they_are_and_the_worker_goes_on(
    stage: Stage, worker: Process
) -> None:
    names = list(CASES)
    for first in range(0, len(names), GROUP):
        do_and_go_on(stage, worker, *names[first : first + GROUP])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(3))
def test_after_each_hostile_job_the_worker_goes_on(stage: Stage, worker: Process, part: int) -> None:
    for name in list(CASES)[part::3]:
        do_and_go_on(stage, worker, name)


def do_and_go_on(stage: Stage, worker: Process, *names: str) -> None:
    """Run these cases; check how they end, and that the worker does what it did before."""
    ids = {name: stage.enqueue(CASES[name].job, what=name) for name in names}
    wrong = [problem for name, job in ids.items() for problem in problems(name, settled(stage, job, name))]
    assert wrong == []
    assert goes_on(stage, worker) == [], names


def problems(name: str, job: Job) -> list[str]:
    """What is wrong with the end of a case."""
    case = CASES[name]
    kind = job.errors[-1]["class"].rpartition(".")[2] if job.errors else ""
    found = []
    if job.state != case.state:
        found.append(f"{name}: {job.state}, not {case.state}: {job.errors[-1:]}")
    elif case.error and case.error != kind:
        found.append(f"{name}: {kind}, not {case.error}")
    if job.crash_count:
        found.append(f"{name}: blamed for {job.crash_count} crashes")
    if case.job == "hostile_result" and job.attempt != 1:
        found.append(f"{name}: ran {job.attempt} times")
    return found


def goes_on(stage: Stage, worker: Process) -> list[str]:
    """What the worker does no longer: run jobs of both kinds, keep logs, time limits, and cancels."""
    good = stage.enqueue_many("good", GOOD) + stage.enqueue_many("good_async", GOOD)
    failing, slow, unwanted = (
        stage.enqueue(name) for name in ("logs_and_fails", "too_long", "waits_for_cancel")
    )
    until(lambda: stage.job(unwanted).state == "running")
    stage.platform.control.cancel(unwanted)
    wrong = []
    results = [ended(stage, job) for job in good]
    if [(one.state, one.result, one.attempt) for one in results] != [
        ("succeeded", n % GOOD, 1) for n in range(2 * GOOD)
    ]:
        wrong.append("good jobs did not succeed, once")
    if error_of(ended(stage, failing)) != ("failed", "ValueError"):
        wrong.append(f"a failing job: {error_of(ended(stage, failing))}")
    if [line.message for line in stage.platform.job_logs.newest(failing, limit=10)] != ["about to fail"]:
        wrong.append("the log of a job was not kept")
    if error_of(ended(stage, slow)) != ("failed", "TimedOut"):
        wrong.append(f"a job beyond its time limit: {error_of(ended(stage, slow))}")
    if ended(stage, unwanted).state != "cancelled":
        wrong.append(f"a cancelled job: {ended(stage, unwanted).state}")
    until(lambda: str(failing) in {event["job_id"] for event in worker.events("job.failed")})
    if str(failing) not in {event.get("job_id") for event in worker.events("about to fail")}:
        wrong.append("the line of a job is not in the worker's log, with its id")
    if not worker.alive:
        wrong.append("the worker has ended")
    return wrong


def settled(stage: Stage, job: UUID, name: str) -> Job:
    """The job of a case in the state in which it must end, or as it is after half a minute."""
    if CASES[name].state != "retrying":
        return ended(stage, job)
    # A strategy that fails is asked again after the next attempt, a minute later.
    until(lambda: stage.job(job).state == "retrying")
    return stage.job(job)


def ended(stage: Stage, job: UUID) -> Job:
    """The job when it has ended, or as it is after half a minute."""
    try:
        return stage.platform.waiting.wait(job, timedelta(seconds=30))
    except WaitTimeout:
        return stage.job(job)


def error_of(job: Job) -> tuple[str, str]:
    return job.state, job.errors[-1]["class"].rpartition(".")[2] if job.errors else ""
