"""Connections that break at the worst moment, and a Postgres that forgets: no job is lost, no end counts for
another attempt.
"""

import pytest
from sqlalchemy import text

from callboard.jobs.attempts.progress import Progress
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.postgres.statements import KeptConnection
from tests.integration.core.factories import claimed, enqueue, execution, run_sql


class LosesAnswers:
    """A lane whose statements are committed, and whose connection breaks before it says so."""

    def __init__(self, lane: KeptConnection) -> None:
        self._lane = lane

    def run(self, work):
        self._lane.run(work)
        raise Unavailable("the connection broke before the answer came")

    def close(self) -> None:
        self._lane.close()


def test_a_claim_whose_answer_was_lost_is_adopted_once(platform, worker):
    ids = enqueue(platform, 3)
    lane, worker.claims._kept = worker.claims._kept, LosesAnswers(worker.claims._kept)
    with pytest.raises(Unavailable):
        worker.claim([(job, 0) for job in ids])
    worker.claims._kept = lane
    adopted = worker.adopt()
    assert {(job.id, job.epoch, job.attempt) for job in adopted} == {(job, 1, 1) for job in ids}
    assert worker.adopt() == []
    assert worker.finish(
        [Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE) for job in adopted]
    ).keys() == set(ids)


def test_a_claim_that_never_was_committed_leaves_nothing_to_adopt(platform, worker):
    (job,) = enqueue(platform)

    class NeverArrives(LosesAnswers):
        def run(self, work):
            raise Unavailable("it never arrived")

    lane, worker.claims._kept = worker.claims._kept, NeverArrives(worker.claims._kept)
    with pytest.raises(Unavailable):
        worker.claim([(job, 0)])
    worker.claims._kept = lane
    assert worker.adopt() == []
    assert [taken.id for taken in worker.claim([(job, 0)])] == [job]


def test_a_claim_that_is_committed_only_after_somebody_looked_is_adopted_all_the_same(platform, worker):
    """The connection broke while the server was still at work: its commit may come late."""
    (job,) = enqueue(platform)
    with platform.database.engine.connect() as slow:

        class StillAtWork(LosesAnswers):
            def run(self, work):
                work(slow)
                raise Unavailable("the connection broke before the commit")

        lane, worker.claims._kept = worker.claims._kept, StillAtWork(worker.claims._kept)
        with pytest.raises(Unavailable):
            worker.claim([(job, 0)])
        worker.claims._kept = lane
        assert worker.adopt() == []
        slow.commit()
    assert [adopted.id for adopted in worker.adopt()] == [job]


def test_a_finish_whose_answer_was_lost_succeeds_when_it_is_repeated(platform, worker):
    job = claimed(platform, worker)[0]
    end = Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, b"1")
    lane, worker.ends._kept = worker.ends._kept, LosesAnswers(worker.ends._kept)
    with pytest.raises(Unavailable):
        worker.finish([end])
    worker.ends._kept = lane
    assert worker.finish([end])[job.id].state is JobState.SUCCEEDED


def test_a_connection_that_is_killed_is_one_outage_and_then_all_is_well(platform, worker):
    first, second = enqueue(platform, 2)
    assert len(worker.claim([(first, 0)])) == 1
    pid = worker.claims._kept.run(
        lambda connection: connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    )
    run_sql(platform, "SELECT pg_terminate_backend(:pid)", pid=pid)
    with pytest.raises(Unavailable):
        worker.claim([(second, 0)])
    assert worker.adopt() == []
    assert [job.id for job in worker.claim([(second, 0)])] == [second]


@pytest.mark.parametrize("same", [True, False], ids=["the same worker", "another worker"])
def test_an_attempt_whose_claim_a_crash_of_postgres_undid_ends_nobody_elses(platform, worker, same):
    """A claim that did not wait for the disk may be undone; the job is claimed again, under the very same
    epoch.
    """
    (job_id,) = enqueue(platform)
    (undone,) = worker.claim([(job_id, 0)])
    run_sql(
        platform,
        "UPDATE callboard.jobs SET state = 'queued', epoch = 0, attempt = 0, worker_id = NULL, claim_id = NULL, started_at = NULL",
    )
    with execution(platform) as other:
        (job,) = (worker if same else other).claim([(job_id, 0)])
        before = platform.jobs.get(job_id)
        worker.report([Progress(undone.id, undone.epoch, undone.claim_id, 0.9, "stale")])
        assert (
            worker.finish([Finish(undone.id, undone.epoch, undone.claim_id, Verb.COMPLETE, b'"stale"')]) == {}
        )
        assert worker.hand_back([undone]) == 0
        assert platform.jobs.get(job_id) == before
        assert job.attempt == 1
