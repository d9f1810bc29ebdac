"""A worker with one thread shows which of its claimed jobs has begun."""

from tests.e2e.stage import Stage, until


def shares(stage: Stage) -> tuple[int, int]:
    counts = stage.platform.queues.get("default")
    return counts.running, counts.claimed


def test_of_the_jobs_that_a_busy_worker_holds_one_runs_and_the_others_are_claimed_ahead(stage: Stage) -> None:
    gate = stage.folder / "gate"
    jobs = [stage.enqueue("until_there", path=str(gate)) for _ in range(20)]
    stage.worker(processes=1, threads=1)
    until(lambda: shares(stage)[0])
    until(lambda: shares(stage)[1])
    running, claimed = shares(stage)
    assert running == 1
    assert claimed == stage.states()["running"] - 1
    (worker,) = stage.platform.workers.live()
    assert (worker.running, worker.claimed) == (running, claimed)
    held = [job for job in stage.platform.jobs.get_many(jobs) if job.state == "running"]
    until(lambda: sum(stage.platform.why.is_claimed_ahead(job) for job in held) == claimed)
    gate.touch()
    until(lambda: stage.states()["succeeded"] == len(jobs))
    assert shares(stage) == (0, 0)
