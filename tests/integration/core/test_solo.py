"""Jobs that are to run alone: who claims them, within which limits, and what ends that."""

from contextlib import ExitStack
from datetime import timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.feed import repository as feed_repository
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.states import Verb
from callboard.scheduler.feeder import Feeder
from tests.integration.core.factories import FakeClock, at_once, claimed, enqueue, execution


def ids(jobs):
    return [job.id for job in jobs]


def standing(platform, job_ids):
    """The state of each, the crashes that it caused and is suspected of, and whether it is to run alone."""
    statement = text("SELECT state, crash_count, suspected, solo FROM callboard.jobs WHERE id = :id")
    with platform.database.autocommit() as connection:
        return [tuple(connection.execute(statement, {"id": job}).one()) for job in job_ids]


def suspects(platform, count=2):
    """Jobs that have been suspected twice, so they run alone."""
    jobs = enqueue(platform, count)
    for _ in range(2):
        with execution(platform) as doomed:
            assert len(doomed.claim_oldest("reports", count)) == count
            platform.workers.end(doomed.worker, jobs)
    return jobs


def test_what_is_to_run_alone_is_claimed_by_no_other_claim_and_is_not_fed(platform, worker):
    (job,) = claimed(platform, worker)
    platform.workers.end(worker.worker, [job.id])
    with execution(platform) as other, platform.database.autocommit() as connection:
        assert other.claim([(job.id, job.epoch + 1)]) == []
        assert other.claim_oldest("reports", 9) == []
        assert feed_repository.queued(connection, "reports", 9).number == 0

        def wanted(queues):
            return platform.workers.solo_waiting([other.worker], queues, 2)

        assert (wanted(["reports"]), wanted([]), wanted(["mail"])) == (1, 1, 0)
        platform.queues.pause("reports")
        assert (wanted([]), other.claim_solo(["build_report"], [])) == (0, [])
        platform.queues.resume("reports")
        assert other.claim_solo(["build_report"], ["mail"]) == other.claim_solo(["another"], []) == []
        assert ids(other.claim_solo(["build_report"], [])) == [job.id]
        assert (wanted([]), other.claim_solo(["build_report"], [])) == (0, [])


def test_a_suspect_that_is_handed_back_stays_one(platform):
    suspects(platform)
    with execution(platform) as alone:
        (held,) = alone.claim_solo(["build_report"], [])
        alone.hand_back([held])
    assert standing(platform, [held.id]) == [("queued", 0, 2, True)]


@pytest.mark.parametrize("verb", [Verb.COMPLETE, Verb.RETRY, Verb.SNOOZE, Verb.FAIL, Verb.STOP])
def test_whatever_end_an_attempt_comes_to_by_itself_clears_it(platform, verb):
    suspects(platform)
    with execution(platform) as alone:
        (held,) = alone.claim_solo(["build_report"], [])
        alone.finish([Finish(held.id, held.epoch, held.claim_id, verb, delay=timedelta(hours=1))])
    assert standing(platform, [held.id])[0][1:] == (0, 0, False)


def test_in_a_limited_queue_they_start_as_far_as_the_limits_allow(platform):
    jobs = suspects(platform)
    platform.queues.limit("reports", Limits.read(concurrency=1))
    feeder = Feeder(platform, FakeClock())
    with execution(platform) as alone:
        assert alone.claim_solo(["build_report"], []) == []
        feeder.round()
        assert platform.workers.solo_waiting([alone.worker], [], 2) == 1
        (held,) = alone.claim_solo(["build_report"], [])
        feeder.round()
        assert alone.claim_solo(["build_report"], []) == []
        alone.finish([Finish(held.id, held.epoch, held.claim_id, Verb.COMPLETE)])
        feeder.round()
        assert {held.id, *ids(alone.claim_solo(["build_report"], []))} == set(jobs)


def test_many_that_ask_at_once_get_one_each(platform):
    suspects(platform, 4)
    with ExitStack() as opened:
        alone = [opened.enter_context(execution(platform)) for _ in range(4)]
        got = at_once(4, lambda turn: alone[turn].claim_solo(["build_report"], []))
    held = [job.id for one in got for job in one]
    assert len(held) == len(set(held))
    assert max(len(one) for one in got) == 1


def test_a_death_during_a_run_alone_gives_its_place_in_a_limited_queue_back(platform):
    jobs = suspects(platform)
    platform.queues.limit("reports", Limits.read(concurrency=1))
    feeder = Feeder(platform, FakeClock())
    begun = []
    for _ in jobs:
        feeder.round()
        with execution(platform) as alone:
            (held,) = alone.claim_solo(["build_report"], [])
            begun.append(held.id)
            feeder.round()
            assert platform.workers.solo_waiting([alone.worker], [], 2) == 0
            platform.workers.end(alone.worker, [held.id])
    assert set(begun) == set(jobs)
    assert standing(platform, jobs) == [("quarantined", 3, 0, True)] * 2
