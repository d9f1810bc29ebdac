"""Limits of keys and rates: turns, windows, and a past that stays small."""

from collections import Counter
from datetime import timedelta

import pytest

from callboard.jobs.limits.repository import granting as limits_repository
from tests.integration.core.factories import (
    count,
    enqueue,
    run_sql,
)
from tests.integration.core.limit_steps import age, end, keys_of, limit, started


def test_a_rate_above_what_is_granted_at_once_is_granted_on_as_workers_start_jobs(platform, feeder, worker):
    limit(platform, rate="5000/1s")
    run_sql(
        platform,
        "INSERT INTO callboard.jobs (id, name, queue, state, max_attempts, run_at, source)"
        " SELECT callboard.uuid7(), 'build_report', 'reports', 'queued', 1, now(), 'sql'"
        " FROM generate_series(1, 1200) n",
    )
    soon = []
    feeder.on_next_free = lambda queue, seconds: soon.append((queue, seconds))
    feeder.round()
    assert soon.pop() == ("reports", 0.05)
    feeder.round()
    assert soon == []
    worker.claims.claim_oldest("reports", 100)
    feeder.round()
    assert soon.pop() == ("reports", 0.05)


def test_a_rate_counts_every_start_for_one_whole_period(platform, feeder, worker):
    limit(platform, rate="3/1m")
    enqueue(platform, 10)
    first = started(platform, feeder, worker)
    end(worker, first)
    assert len(first) == 3
    assert started(platform, feeder, worker) == []
    age(platform, 59)
    assert started(platform, feeder, worker) == []
    age(platform, 1)
    assert len(started(platform, feeder, worker)) == 3
    assert platform.queues.get("reports").started == 3


def test_keys_take_turns_however_many_jobs_one_of_them_has(platform, feeder, worker):
    limit(platform, concurrency=4)
    enqueue(platform, 50, limit_key="greedy")
    enqueue(platform, 2, limit_key="modest")
    enqueue(platform, 2)
    first = started(platform, feeder, worker)
    assert keys_of(platform, first) == {"greedy": 2, "modest": 1, None: 1}
    end(worker, [job for job in first if platform.jobs.get(job.id).limit_key == "greedy"][:1])
    assert len(started(platform, feeder, worker)) == 1


def test_every_key_has_its_turn_when_places_are_fewer_than_keys(platform, feeder, worker):
    limit(platform, concurrency=1)
    for key in "abcde":
        enqueue(platform, 3, limit_key=key)
    seen = []
    for _ in range(15):
        (job,) = started(platform, feeder, worker)
        seen.append(platform.jobs.get(job.id).limit_key)
        end(worker, [job])
    assert [set(seen[start : start + 5]) for start in (0, 5, 10)] == [set("abcde")] * 3


def test_limits_of_keys_hold_for_each_key_and_jobs_without_one_are_free(platform, feeder, worker):
    limit(platform, key_concurrency=2)
    for key in ("a", "b", None):
        enqueue(platform, 5, limit_key=key)
    first = started(platform, feeder, worker)
    assert keys_of(platform, first) == {"a": 2, "b": 2, None: 5}
    end(worker, [job for job in first if platform.jobs.get(job.id).limit_key == "a"])
    assert keys_of(platform, started(platform, feeder, worker)) == {"a": 2}


def test_the_rate_of_a_key_counts_its_starts_alone(platform, feeder, worker):
    limit(platform, key_rate="2/1m")
    for key in ("a", "b"):
        enqueue(platform, 5, limit_key=key)
    first = started(platform, feeder, worker)
    end(worker, first)
    assert keys_of(platform, first) == {"a": 2, "b": 2}
    assert started(platform, feeder, worker) == []
    age(platform, 60)
    assert keys_of(platform, started(platform, feeder, worker)) == {"a": 2, "b": 2}


def test_jobs_without_a_key_are_found_behind_any_number_that_are_held_up(platform, feeder, worker):
    limit(platform, key_concurrency=1)
    run_sql(
        platform,
        "INSERT INTO callboard.jobs (id, name, queue, state, max_attempts, run_at, source, limit_key)"
        " SELECT callboard.uuid7(), 'a', 'reports', 'queued', 1, now() - interval '1 day' + n * interval '1ms', 'sql', 'k'"
        " FROM generate_series(1, 7000) n",
    )
    enqueue(platform, 2)
    found = [keys_of(platform, started(platform, feeder, worker)) for _ in range(9)]
    assert sum(found, Counter()) == {"k": 1, None: 2}


def test_more_keys_than_a_round_looks_at_are_all_served(platform, feeder, worker):
    limit(platform, key_concurrency=1)
    run_sql(
        platform,
        "INSERT INTO callboard.jobs (id, name, queue, state, max_attempts, run_at, source, limit_key)"
        " SELECT callboard.uuid7(), 'a', 'reports', 'queued', 1, now(), 'sql', 'key' || n % 1200"
        " FROM generate_series(1, 2400) n",
    )
    jobs = [job for _ in range(6) for job in started(platform, feeder, worker)]
    assert len(jobs) == 1_200
    assert set(keys_of(platform, jobs).values()) == {1}


def test_the_past_of_a_large_rate_is_folded_and_nothing_of_it_is_forgotten(platform, feeder, worker):
    limit(platform, rate="900/1h")
    run_sql(
        platform,
        "INSERT INTO callboard.grants (job_id, epoch, queue, started_at)"
        " SELECT gen_random_uuid(), 0, 'reports', now() - interval '50 minutes' + n * interval '10 ms'"
        " FROM generate_series(1, 800) n",
    )
    enqueue(platform, 300)
    assert len(started(platform, feeder, worker)) == 100
    # a slice with a few of them is not worth folding
    assert count(platform, "grants") <= 155
    assert platform.queues.get("reports").started == 900
    age(platform, 3_600 - 50 * 60 - 20)
    assert started(platform, feeder, worker) == []
    age(platform, 60)
    assert len(started(platform, feeder, worker)) == 200


def test_old_starts_are_swept_once_no_rate_counts_them(platform, feeder, worker):
    limit(platform, rate="5/1s")
    enqueue(platform, 5)
    started(platform, feeder, worker)
    age(platform, 1)
    with platform.database.transaction() as connection:
        limits_repository.sweep(connection, "reports", timedelta(seconds=1))
    assert count(platform, "grants") == 0


def test_a_job_without_a_key_behind_thousands_that_have_one_does_not_wait_for_them(platform, feeder, worker):
    limit(platform, concurrency=10, key_concurrency=1)
    enqueue(platform, 3_000, limit_key="acme")
    assert len(started(platform, feeder, worker)) == 1
    plain = enqueue(platform)[0]
    assert [job.id for job in started(platform, feeder, worker)] == [plain]


@pytest.mark.parametrize(
    ("limits", "flags"),
    [
        ({"concurrency": 2}, (True, False, False)),
        ({"key_concurrency": 2}, (False, True, False)),
        ({"concurrency": 2, "key_concurrency": 1}, (True, False, False)),
        ({"rate": "5/1s"}, (False, False, True)),
        ({"key_concurrency": 1, "rate": "5/1s"}, (True, False, True)),
        ({"concurrency": 1, "key_rate": "5/1s"}, (True, False, True)),
    ],
)
def test_a_worker_reads_what_the_limits_of_its_queues_count(platform, worker, limits, flags):
    limit(platform, **limits)
    (queue,) = worker.served_queues(["reports"])
    assert (queue.counts_running, queue.counts_by_key, queue.counts_starts) == flags
