"""Handing on: the worker that ends jobs of a limited queue gives their places to the next jobs."""

from collections import Counter
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from callboard.jobs.attempts.ends import EndsAndClaims
from callboard.jobs.errors import Unavailable
from callboard.jobs.limits.repository import granting
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import Verb
from callboard.scheduler.feeder import Feeder
from tests.integration.core.factories import (
    FakeClock,
    at_once,
    enqueue,
    execution,
    run_sql,
)
from tests.integration.core.limit_steps import end, keys_of, limit, started, tokens


def ended(worker, jobs: Sequence[ClaimedJob], verb: Verb = Verb.COMPLETE, most: int = 1_000) -> EndsAndClaims:
    ends = [Finish(job.id, job.epoch, job.claim_id, verb) for job in jobs]
    found = worker.ends.finish_and_claim(ends, {job.id: job.queue for job in jobs}, most)
    worker.ends.correct_tokens(found.handed_on)
    return found


def states(platform) -> Counter[str]:
    with platform.database.autocommit() as connection:
        found = connection.execute(text("SELECT state, count(*) FROM callboard.jobs GROUP BY state"))
        return Counter({row.state: row.count for row in found})


def ids(jobs: Sequence[ClaimedJob]) -> list[object]:
    return [job.id for job in jobs]


def test_the_places_of_ended_jobs_go_to_the_next_jobs_in_order(platform, feeder, worker):
    limit(platform, concurrency=2)
    jobs = enqueue(platform, 5)
    running = started(platform, feeder, worker)
    found = ended(worker, running)
    assert ids(found.claimed) == jobs[2:4]
    assert all(job.limited for job in found.claimed)
    assert found.free == set()
    found = ended(worker, found.claimed)
    assert ids(found.claimed) == jobs[4:]
    assert found.free == {"reports"}
    assert states(platform) == Counter(succeeded=4, running=1)


def test_a_retry_frees_its_place_too(platform, feeder, worker):
    limit(platform, concurrency=1)
    jobs = enqueue(platform, 2)
    found = ended(worker, started(platform, feeder, worker), Verb.RETRY)
    assert ids(found.claimed) == jobs[1:]


def test_one_batch_ends_jobs_of_several_queues_in_several_ways(platform, feeder, worker):
    limit(platform, concurrency=2)
    limit(platform, "mail", concurrency=1)
    first, second = enqueue(platform, 4), enqueue(platform, 2, queue="mail")
    running = started(platform, feeder, worker) + worker.claim(tokens(platform, "mail"))
    verbs = [Verb.COMPLETE, Verb.RETRY, Verb.FAIL]
    ends = [Finish(job.id, job.epoch, job.claim_id, verb) for job, verb in zip(running, verbs, strict=True)]
    found = worker.ends.finish_and_claim(ends, {job.id: job.queue for job in running}, 8)
    assert sorted(ids(found.claimed)) == sorted([*first[2:], *second[1:]])
    assert found.free == set()


def test_a_stale_end_hands_nothing_on(platform, feeder, worker):
    limit(platform, concurrency=1)
    enqueue(platform, 3)
    running = started(platform, feeder, worker)
    ended(worker, running)
    again = ended(worker, running)
    assert again.claimed == []
    assert states(platform)["running"] == 1


def test_a_lowered_limit_is_reached_before_places_are_handed_on_again(platform, feeder, worker):
    limit(platform, concurrency=4)
    enqueue(platform, 12)
    running = started(platform, feeder, worker)
    limit(platform, concurrency=2)
    feeder.round()
    found = ended(worker, running[:1])
    assert (found.claimed, found.free) == ([], {"reports"})
    assert ended(worker, running[1:2]).claimed == []
    feeder.round()
    assert len(ended(worker, running[2:]).claimed) == 2
    assert states(platform)["running"] == 2


def test_until_the_feeder_has_counted_under_new_limits_nothing_is_handed_on(platform, feeder, worker):
    limit(platform, concurrency=2)
    enqueue(platform, 6)
    running = started(platform, feeder, worker)
    limit(platform, concurrency=3)
    assert ended(worker, running[:1]).claimed == []
    feeder.round()
    assert len(ended(worker, running[1:]).claimed) == 1


def test_limits_that_were_changed_by_hand_are_counted_again(platform, feeder, worker):
    limit(platform, concurrency=3)
    enqueue(platform, 9)
    running = started(platform, feeder, worker)
    run_sql(platform, "UPDATE callboard.queues SET concurrency = 1")
    assert ended(worker, running[:1]).claimed == []
    feeder.round()
    assert ended(worker, running[1:2]).claimed == []


@pytest.mark.parametrize(
    "limits",
    [{"concurrency": 2, "rate": "100/1h"}, {"concurrency": 2, "key_concurrency": 2}, {"rate": "2/1h"}],
)
def test_where_a_count_is_needed_the_feeder_grants(platform, feeder, worker, limits):
    limit(platform, **limits)
    enqueue(platform, 6)
    found = ended(worker, started(platform, feeder, worker))
    assert (found.claimed, found.free) == ([], {"reports"})


def test_a_paused_queue_hands_nothing_on(platform, feeder, worker):
    limit(platform, concurrency=1)
    enqueue(platform, 2)
    running = started(platform, feeder, worker)
    platform.queues.pause("reports")
    assert ended(worker, running).claimed == []


@pytest.mark.parametrize(("concurrency", "number"), [(4, 3), (3, 0), (2, 0)])
def test_keys_of_a_limited_queue_keep_their_places_while_the_queue_has_free_ones(
    platform, feeder, worker, concurrency, number
):
    limit(platform, concurrency=concurrency, key_concurrency=1)
    for key in ("a", "b", "c"):
        enqueue(platform, 2, limit_key=key)
    found = ended(worker, started(platform, feeder, worker))
    assert len(found.claimed) == number
    assert set(keys_of(platform, found.claimed).values()) <= {1}
    assert found.free == (set() if number else {"reports"})


@pytest.mark.parametrize("verb", [Verb.FAIL, Verb.RETRY])
def test_keys_that_fail_do_not_keep_the_places_of_a_full_queue(platform, feeder, worker, verb):
    limit(platform, concurrency=2, key_concurrency=1)
    for key in ("a", "b", "c"):
        enqueue(platform, 2, limit_key=key)
    found = ended(worker, started(platform, feeder, worker)[:1], verb)
    assert (found.claimed, found.free) == ([], {"reports"})


def test_keys_do_not_keep_their_places_while_another_waits_for_one_that_was_just_freed(
    platform, feeder, worker
):
    limit(platform, concurrency=3, key_concurrency=1)
    for key in ("a", "b", "c", "d"):
        enqueue(platform, 2, limit_key=key)
    running = started(platform, feeder, worker)
    end(worker, running[:1])
    found = ended(worker, running[1:2])
    assert (found.claimed, found.free) == ([], {"reports"})


def test_keys_do_not_keep_the_places_of_a_full_queue_when_jobs_of_another_queue_end_with_theirs(
    platform, feeder, worker
):
    limit(platform, concurrency=2, key_concurrency=1)
    limit(platform, "mail", concurrency=1)
    enqueue(platform, 1, queue="mail")
    for key in ("a", "b", "c"):
        enqueue(platform, 2, limit_key=key)
    running = started(platform, feeder, worker)
    found = ended(worker, [running[0], *worker.claim(tokens(platform, "mail"))])
    assert (found.claimed, found.free) == ([], {"mail", "reports"})


def test_a_key_keeps_its_place_and_the_one_that_waits_longest_runs_next(platform, feeder, worker):
    limit(platform, key_concurrency=1)
    for key in ("a", "b", "c"):
        enqueue(platform, 4, limit_key=key)
    feeder.round()
    turns = []
    running = worker.claim(tokens(platform)[:1])
    for _ in range(9):
        turns += keys_of(platform, running)
        running = ended(worker, running).claimed
        assert len(running) == 1
    assert len(set(turns[:3])) == 3
    assert turns == turns[:3] * 3


@pytest.mark.parametrize("limits", [{"concurrency": 3}, {"key_concurrency": 1}])
def test_places_beyond_what_the_worker_may_claim_are_for_all_workers(platform, feeder, worker, limits):
    limit(platform, **limits)
    for key in ("a", "b", "c"):
        enqueue(platform, 2, limit_key=None if "concurrency" in limits else key)
    found = ended(worker, started(platform, feeder, worker), most=1)
    assert (len(found.claimed), found.free) == (1, set())
    with execution(platform) as other:
        assert len(other.claim(tokens(platform))) == 2


def test_keys_of_which_no_job_is_granted_yet_have_their_turn_beside_thousands_of_others(
    platform, feeder, worker
):
    limit(platform, key_concurrency=1)
    run_sql(
        platform,
        "INSERT INTO callboard.jobs (id, name, queue, state, max_attempts, run_at, source, limit_key)"
        " SELECT callboard.uuid7(), 'build_report', 'reports', 'queued', 1, now(), 'sql', 'key' || n % 1200"
        " FROM generate_series(1, 3600) n",
    )
    feeder.round()
    feeder.round()
    seen = set()
    running = worker.claims.claim_oldest("reports", 100)
    for _ in range(20):
        seen |= set(keys_of(platform, running))
        found = ended(worker, running)
        if found.free:
            feeder.round()
        running = found.claimed
    assert len(seen) == 1_200


def test_tokens_in_redis_follow_what_was_handed_on(platform, feeder, worker):
    limit(platform, key_concurrency=1)
    for key in ("a", "b", "c"):
        enqueue(platform, 4, limit_key=key)
    feeder.round()
    running = worker.claim(tokens(platform)[:1])
    feeder.round()
    for _ in range(6):
        running = ended(worker, running).claimed
    left = tokens(platform)
    assert len(left) == 2
    assert len(worker.claim(left)) == 2


def test_while_keys_share_the_places_of_a_queue_the_feeder_decides_whose_turn_it_is(platform, feeder, worker):
    limit(platform, concurrency=1)
    enqueue(platform, 3)
    running = started(platform, feeder, worker)
    enqueue(platform, 1, limit_key="a")
    assert ended(worker, running).claimed == []


def test_a_job_that_must_run_alone_gets_its_grant_in_turn(platform, feeder, worker):
    limit(platform, concurrency=1)
    alone = enqueue(platform, 3)[1]
    running = started(platform, feeder, worker)
    run_sql(platform, "UPDATE callboard.jobs SET solo = true WHERE id = :id", id=alone)
    found = ended(worker, running)
    assert (found.claimed, found.free) == ([], set())
    assert ids(worker.claims.claim_solo(["build_report"], [])) == [alone]


def test_large_arguments_come_with_the_next_job(platform, feeder, worker):
    limit(platform, concurrency=1)
    enqueue(platform, 2, kwargs={"text": "x" * 20_000})
    (job,) = ended(worker, started(platform, feeder, worker)).claimed
    assert len(job.kwargs["text"]) == 20_000


def test_a_worker_without_a_lease_ends_its_jobs_and_claims_nothing(platform, feeder, worker):
    limit(platform, concurrency=1)
    enqueue(platform, 2)
    running = started(platform, feeder, worker)
    run_sql(platform, "UPDATE callboard.workers SET lease_expires_at = now() - interval '1 second'")
    found = ended(worker, running)
    assert len(found.done) == 1
    assert found.claimed == []


def test_jobs_of_a_claim_whose_answer_was_lost_are_found_again(platform, feeder, worker, monkeypatch):
    limit(platform, concurrency=1)
    jobs = enqueue(platform, 2)
    running = started(platform, feeder, worker)
    run = worker.ends._kept.run

    def loses_the_answer(work):
        run(work)
        raise Unavailable("the connection broke")

    monkeypatch.setattr(worker.ends._kept, "run", loses_the_answer)
    with pytest.raises(Unavailable):
        ended(worker, running)
    monkeypatch.undo()
    again = ended(worker, running)
    assert len(again.done) == 1
    assert again.claimed == []
    assert ids(worker.claims.adopt()) == jobs[1:]


def busiest(platform) -> int:
    with platform.database.autocommit() as connection:
        return granting.busiest_key(connection, "reports")


@pytest.mark.parametrize(
    "limits",
    [
        {"concurrency": 6},
        {"key_concurrency": 1},
        {"concurrency": 6, "key_concurrency": 1},
        {"concurrency": 20, "key_concurrency": 2},
    ],
)
def test_workers_and_feeders_at_once_never_run_more_than_the_limit(platform, feeder, limits):
    limit(platform, **limits)
    for number in range(8):
        enqueue(platform, 50, limit_key=f"key-{number}" if "key_concurrency" in limits else None)
    most, of_a_key = [], []
    feeders = [feeder, Feeder(platform, FakeClock())]
    for one in feeders:
        one.round()

    def works(number: int) -> int:
        own, done = feeders[number % 2], 0
        with execution(platform) as worker:
            for _ in range(2_000):
                if done >= 60:
                    break
                running = worker.claims.claim_oldest("reports", 2)
                if not running:
                    own.round()
                while running and done < 60:
                    most.append(states(platform)["running"])
                    of_a_key.append(busiest(platform))
                    done += len(running)
                    running = ended(worker, running).claimed
                worker.finish([Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE) for job in running])
        return done

    assert sum(at_once(4, works)) >= 240
    assert max(most) <= limits.get("concurrency", 8)
    assert max(of_a_key) <= limits.get("key_concurrency", 0)
