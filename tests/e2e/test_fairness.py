"""A worker's preferred queue that never runs empty does not starve the others."""

from collections import Counter

import pytest
from sqlalchemy import text

from callboard.jobs.model.request import job_request
from tests.e2e.stage import Stage, until
from tests.integration.core.factories import enqueue_all

NOWHERE = "redis://127.0.0.1:1/0"
#: What the ends are counted after: enough for shares to show.
ENOUGH = 800


def fill(stage: Stage, queue: str, number: int) -> None:
    request = job_request({"name": "ledger", "kwargs": {"n": 1}, "queue": queue})
    enqueue_all(stage.platform, [request] * number)


def count(stage: Stage, state: str) -> Counter[str]:
    """How many jobs of each queue are in this state."""
    statement = text("SELECT queue, count(*) FROM callboard.jobs WHERE state = :state GROUP BY 1")
    with stage.platform.database.autocommit() as connection:
        return Counter({row[0]: row[1] for row in connection.execute(statement, {"state": state})})


def ended(stage: Stage) -> Counter[str]:
    """How many jobs of each queue have ended, by the time that these are enough; no queue has run empty by
    then.
    """
    until(lambda: count(stage, "succeeded").total() >= ENOUGH, 60)
    done = count(stage, "succeeded")
    left = count(stage, "queued")
    assert set(left) == {"first", "second", "third"}
    return done


@pytest.mark.parametrize("redis", ["there", "away"])
def test_preferred_queues_come_first_and_the_others_get_their_share(stage: Stage, redis: str) -> None:
    fill(stage, "first", 4_000)
    fill(stage, "second", 1_000)
    fill(stage, "third", 1_000)
    elsewhere = {"redis_url": NOWHERE} if redis == "away" else {}
    stage.worker(threads=2, slots=4, queues="first,second,third", **elsewhere)
    done = ended(stage)
    # an eighth is for the other two together; the first has all the rest
    share = {queue: number / done.total() for queue, number in done.items()}
    print(share)
    assert share["first"] > 0.75
    assert share["second"] > 0.03
    assert share["third"] > 0.03


def test_a_worker_of_all_queues_serves_them_evenly(stage: Stage) -> None:
    for queue in ("first", "second", "third"):
        fill(stage, queue, 2_000)
    stage.worker(threads=2, slots=4, queues="")
    done = ended(stage)
    print(done)
    assert min(done.values()) > done.total() * 0.25
