"""The order within a queue: a step of priority is worth ten minutes of waiting, in Postgres as in Redis."""

import random
from datetime import UTC, datetime, timedelta

from callboard.jobs.feed import repository as feed_repository
from callboard.jobs.model.states import JobState
from callboard.jobs.redis.queue_tokens import read_token
from tests.integration.core.factories import execution, put_job

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def put(platform, *waits: tuple[int, timedelta]) -> list[str]:
    """Queued jobs of these priorities that became due so long ago; their ids."""
    with platform.database.transaction() as connection:
        return [
            str(put_job(connection, JobState.QUEUED, priority=priority, run_at=NOW - waited).id)
            for priority, waited in waits
        ]  # fmt: skip


def in_postgres(platform) -> list[str]:
    with platform.database.autocommit() as connection:
        return [job for job, _ in feed_repository.queued(connection, "reports", 1_000).ids()]


def in_redis(platform) -> list[str]:
    with platform.database.autocommit() as connection:
        platform.transport.feed("reports", feed_repository.queued(connection, "reports", 1_000))
    return [read_token(raw)[0] for raw in platform.transport.pop(["reports"], 1_000, 0.1)]


def test_the_least_urgent_that_has_waited_ninety_one_minutes_goes_before_the_most_urgent_that_is_new(
    platform,
):
    old, fresh, less = put(
        platform, (9, timedelta(minutes=91)), (0, timedelta(0)), (9, timedelta(minutes=89))
    )
    assert in_postgres(platform) == [old, fresh, less]
    assert in_redis(platform) == [old, fresh, less]


def test_what_became_due_together_goes_by_priority(platform):
    jobs = put(platform, *((priority, timedelta(minutes=1)) for priority in range(9, -1, -1)))
    assert in_postgres(platform) == jobs[::-1]
    assert in_redis(platform) == jobs[::-1]


def test_postgres_and_redis_agree_on_any_mixture(platform):
    dice = random.Random(7)
    # no two in the same millisecond, whatever their priorities: there Redis has no order to tell
    put(platform, *(
        (dice.randrange(10), timedelta(milliseconds=dice.randrange(7_200_000) * 600 + number))
        for number in range(400)
    ))  # fmt: skip
    assert in_redis(platform) == in_postgres(platform)


def test_without_redis_the_same_order_is_claimed(platform):
    old, fresh, less = put(
        platform, (9, timedelta(minutes=91)), (0, timedelta(0)), (9, timedelta(minutes=89))
    )
    with execution(platform) as worker:
        assert [str(worker.claim_oldest("reports", 1)[0].id) for _ in range(3)] == [old, fresh, less]
