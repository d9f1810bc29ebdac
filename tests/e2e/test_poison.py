"""A job that takes its process along is found out within three deaths; what runs beside it is neither lost
nor blamed.
"""

import signal

import pytest

from tests.e2e.stage import Process, Stage, until

#: Seconds; what began beside two deaths is run once alone.
PATIENCE = 120.0
SIBLINGS = 30


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("how", "told"),
    [
        pytest.param("exit", "code 0", marks=pytest.mark.long),
        pytest.param("segfault", "SIGSEGV", marks=pytest.mark.long),
        ("kill", "SIGKILL"),
    ],
)
def test_a_job_that_kills_its_process_dies_three_times_and_its_siblings_succeed(
    stage: Stage, how: str, told: str
) -> None:
    poison = stage.enqueue_with("deadly", {"how": how}, priority=0)
    siblings = stage.enqueue_many("second", SIBLINGS)
    worker = stage.start("worker", processes=2, threads=6, slots=16, metrics_port=0)
    stage.start("scheduler")
    until(lambda: stage.states() == {"quarantined": 1, "succeeded": SIBLINGS}, PATIENCE)
    assert stage.starts()[str(poison)] == 3
    dead = stage.job(poison)
    assert (dead.crash_count, dead.attempt) == (3, 0)
    assert {error["class"] for error in dead.errors} == {"WorkerDied"}
    assert told in dead.errors[-1]["message"]
    ended = [stage.job(job) for job in siblings]
    assert {(job.crash_count, job.attempt, job.solo) for job in ended} == {(0, 1, False)}
    check_told(worker, str(poison))
    # two deaths beside others, one alone; none counts as a failed start
    assert [event["level"] for event in worker.events("worker.exited")].count("error") == 3
    assert worker.alive
    assert worker.events("worker.gave_up") == []


def check_told(worker: Process, poison: str) -> None:
    # told and counted once it is committed
    (quarantined,) = until(lambda: worker.events("job.quarantined"))
    assert (quarantined["job_id"], quarantined["crash_count"]) == (poison, 3)
    assert poison in {event["job_id"] for event in worker.events("job.suspected")}
    assert {event["job_id"] for event in worker.events("job.crashed")} == {poison}
    labels = '{job_name="deadly",queue="default"}'
    assert worker.metric(f"callboard_jobs_quarantined_total{labels}") == 1
    assert worker.metric(f"callboard_job_crashes_total{labels}") == 1


@pytest.mark.long
@pytest.mark.timeout(200)
def test_async_siblings_of_such_a_job_succeed_as_well(stage: Stage) -> None:
    poison = stage.enqueue("deadly_async", how="kill")
    siblings = [stage.enqueue("naps", seconds=3.0) for _ in range(5)]
    worker = stage.start("worker", processes=1, threads=2)
    stage.start("scheduler")
    until(lambda: stage.states() == {"quarantined": 1, "succeeded": 5}, PATIENCE)
    assert (stage.starts()[str(poison)], stage.job(poison).crash_count) == (3, 3)
    assert {(job.crash_count, job.attempt) for job in map(stage.job, siblings)} == {(0, 1)}
    assert worker.alive


@pytest.mark.long
def test_a_worker_that_is_told_to_stop_takes_its_lone_children_with_it(stage: Stage) -> None:
    job = stage.enqueue("dozes", seconds=120)
    stage.start("scheduler")
    worker = stage.worker(threads=1, slots=1, grace="1s")
    stage.wait_started(1)
    stage.platform.workers.end(stage.leases(worker)[0].id, [job])
    until(lambda: stage.starts()[str(job)] == 2)
    assert (stage.job(job).crash_count, stage.job(job).solo) == (1, True)
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    back = stage.job(job)
    assert (back.state, back.attempt, back.crash_count, back.solo) == ("queued", 0, 1, True)
    assert stage.platform.workers.live() == []
