"""Queues: seen, paused, resumed, purged."""

from datetime import datetime

import pytest

from callboard.jobs.definitions import repository as definitions_repository
from callboard.jobs.errors import NotFound
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres import notices
from tests.integration.core.factories import count, enqueue, execution, put_job, states, until, without_redis


def put(platform, state, number=1, **columns):
    with platform.database.transaction() as connection:
        definitions_repository.declare(connection, ["reports"])
        return [put_job(connection, state, **columns).id for _ in range(number)]


def test_a_queue_counts_what_is_unfinished_by_state(platform):
    for number, state in enumerate(JobState, 1):
        put(platform, state, number)
    enqueue(platform, 2, queue="other")
    enqueue(platform, 1)
    counts = platform.queues.get("reports")
    assert (counts.scheduled, counts.queued, counts.running, counts.retrying) == (2, 4, 4, 5)
    assert counts.oldest_at == datetime.fromisoformat("2026-01-01T00:00:00Z")
    assert counts.paused_at is None
    assert [(queue.name, queue.queued) for queue in platform.queues.every()] == [("other", 2), ("reports", 4)]
    assert platform.queues.every()[1] == counts


def test_an_empty_queue_counts_nothing(platform):
    (job,) = enqueue(platform)
    platform.control.cancel(job)
    counts = platform.queues.get("reports")
    assert (counts.queued, counts.scheduled, counts.oldest_at) == (0, 0, None)


@pytest.mark.parametrize("verb", ["get", "pause", "resume", "purge"])
def test_a_queue_that_is_none_is_not_found(platform, verb):
    with pytest.raises(NotFound, match="no queue 'nowhere'"):
        getattr(platform.queues, verb)("nowhere")


def test_a_pause_forgets_the_tokens_and_holds_until_the_queue_is_resumed(platform):
    jobs = enqueue(platform, 3)
    paused = platform.queues.pause("reports")
    assert paused.paused_at is not None
    assert platform.queues.pause("reports") == paused
    assert platform.transport.depth("reports") == 0
    with execution(platform) as worker:
        assert worker.claim([(job, 0) for job in jobs]) == []
        with platform.database.autocommit() as ear:
            notices.listen(ear)
            assert platform.queues.resume("reports").paused_at is None
            until(lambda: "reports" in notices.heard(ear, 1.0))
            ear.invalidate()
        assert len(worker.claim([(job, 0) for job in jobs])) == 3
    assert platform.queues.resume("reports").paused_at is None


def test_a_purge_cancels_what_is_queued_and_nothing_else(platform):
    jobs = {state: put(platform, state)[0] for state in JobState}
    other = enqueue(platform, queue="other")[0]
    assert platform.queues.purge("reports", dry_run=True) == 1
    assert states(platform, list(jobs.values())) == list(jobs)
    assert platform.queues.purge("reports") == 1
    expected = ["cancelled" if state is JobState.QUEUED else str(state) for state in jobs]
    assert states(platform, list(jobs.values())) == expected
    assert states(platform, [other]) == ["queued"]
    assert platform.queues.purge("reports") == 0


def test_a_purge_of_more_than_a_batch_empties_the_queue_and_its_tokens(platform):
    enqueue(platform, 2_100)
    assert platform.queues.purge("reports") == 2_100
    assert platform.transport.depth("reports") == 0
    assert platform.queues.get("reports").queued == 0
    assert count(platform) == 2_100


def test_without_redis_queues_are_paused_and_purged(platform):
    with without_redis(platform) as lame:
        enqueue(lame, 2)
        assert lame.queues.pause("reports").paused_at is not None
        assert lame.queues.purge("reports") == 2
        assert lame.queues.resume("reports").queued == 0
