"""Any process may be killed at any moment: no job is lost, none is run more often than the kills account for."""

import os
import signal
from collections.abc import Callable

import pytest
import redis

from tests.e2e.stage import Process, Stage, until

JOBS = int(os.environ.get("CALLBOARD_TEST_CHAOS_JOBS", "20000"))
PROCESSES, SLOTS = 2, 64
#: What is suspected runs alone, each job in a process that boots for it. Seconds.
PATIENCE = 120.0


class Show:
    """A scheduler and a worker, and the ways in which they are hit."""

    def __init__(self, stage: Stage, redis_url: str) -> None:
        self._stage = stage
        self._redis_url = redis_url
        self.scheduler = self._start_scheduler()
        self.worker = self._start_worker()

    def kill_child(self) -> None:
        victim = until(lambda: self._stage.leases(self.worker))[0]
        os.kill(victim.pid, signal.SIGKILL)

    def kill_supervisor(self) -> None:
        self.worker.kill()
        self.worker = self._start_worker()

    def kill_host(self) -> None:
        self.worker.kill_all()
        self.worker = self._start_worker()

    def kill_scheduler(self) -> None:
        self.scheduler.kill()
        self.scheduler = self._start_scheduler()

    def empty_redis(self) -> None:
        with redis.Redis.from_url(self._redis_url) as client:
            client.flushdb()

    def _start_worker(self) -> Process:
        return self._stage.start("worker", processes=PROCESSES, threads=8, slots=SLOTS, lease_ttl="6s")

    def _start_scheduler(self) -> Process:
        return self._stage.start("scheduler", lease_ttl="6s")


@pytest.mark.timeout(300)
def test_every_job_succeeds_however_often_processes_are_killed(stage: Stage, redis_url: str) -> None:
    ids = {str(job) for job in stage.enqueue_many("ledger", JOBS)}
    show = Show(stage, redis_url)
    blows: list[Callable[[], None]] = [
        show.kill_child, show.empty_redis, show.kill_scheduler, show.kill_supervisor, show.kill_child,
        show.kill_scheduler, show.empty_redis, show.kill_host,
    ]  # fmt: skip
    for number, blow in enumerate(blows, 1):
        due = number * JOBS // (len(blows) + 1)
        until(lambda due=due: stage.states()["succeeded"] >= due, 60)
        blow()
    until(lambda: not {"queued", "running"} & set(stage.states()), PATIENCE)
    assert stage.states() == {"succeeded": JOBS}
    starts = stage.starts()
    # told apart by number: pytest would compare thousands of ids line by line
    assert (len(ids - set(starts)), len(set(starts) - ids)) == (0, 0)
    # each kill of a child costs what it held at most; an orphan hands back and finishes
    assert starts.total() - JOBS <= (2 + PROCESSES) * SLOTS
    assert stage.attempts() == {1: JOBS}
    print(f"{JOBS} jobs, {starts.total() - JOBS} run again, crashes counted: {dict(stage.crashes())}")


@pytest.mark.timeout(200)
def test_a_job_that_kills_its_process_is_quarantined_and_what_only_waited_is_not_blamed(stage: Stage) -> None:
    poison = stage.enqueue_with("poison", {}, priority=0)
    siblings = stage.enqueue_many("ledger", 20)
    stage.start("scheduler")
    # one thread: whatever else the child has claimed has not begun when it dies
    worker = stage.start("worker", processes=1, threads=1, slots=32)
    until(lambda: stage.states() == {"quarantined": 1, "succeeded": 20}, PATIENCE)
    dead = stage.job(poison)
    assert (dead.state, dead.crash_count) == ("quarantined", 3)
    assert {(job.crash_count, job.attempt) for job in map(stage.job, siblings)} == {(0, 1)}
    assert stage.starts()[str(poison)] == 3
    assert worker.alive
    assert [event["code"] for event in worker.events("worker.exited")] == [1, 1, 1]


@pytest.mark.timeout(200)
def test_a_child_that_dies_is_replaced_and_its_sibling_works_on(stage: Stage) -> None:
    stage.start("scheduler")
    # one slot: who waits for the file claims nothing else
    worker = stage.worker(processes=2, threads=1, slots=1)
    gate = stage.folder / "gate"
    long = stage.enqueue("until_there", path=str(gate))
    stage.wait_started(1)
    holder = stage.job(long).worker_id
    poison = stage.enqueue("poison")
    until(lambda: stage.job(poison).state == "quarantined", PATIENCE)
    until(lambda: len(stage.leases(worker)) == 2)
    gate.touch()
    done = stage.platform.waiting.wait(long, None)
    assert (done.state, done.attempt, done.crash_count, done.worker_id) == ("succeeded", 1, 0, holder)
    # two at first, one in the place of the dead, and two for the poison alone
    assert [event["solo"] for event in worker.events("worker.started")].count(True) == 2
    assert len(worker.events("worker.started")) == 5
