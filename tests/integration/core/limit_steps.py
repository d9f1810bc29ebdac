"""Steps of the tests of limits: set them, let a round grant, claim what came of it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish, Finished
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.states import Verb
from callboard.jobs.platform import Platform
from callboard.jobs.redis.queue_tokens import read_token
from callboard.scheduler.feeder import Feeder
from tests.integration.core.factories import Execution, run_sql


def limit(platform: Platform, queue: str = "reports", **given: Any) -> None:
    platform.queues.limit(queue, Limits.read(**given))


def tokens(platform: Platform, queue: str = "reports") -> list[tuple[str, int]]:
    popped = [read_token(raw) for raw in platform.transport.pop([queue], 5_000, 0.01)]
    readable = [token for token in popped if token is not None]
    assert readable == popped
    return readable


def started(platform: Platform, feeder: Feeder, worker: Execution) -> list[ClaimedJob]:
    """What a round and a claim of all that came of it start."""
    feeder.round()
    return worker.claim(tokens(platform))


def end(worker: Execution, jobs: Sequence[ClaimedJob], verb: Verb = Verb.COMPLETE) -> dict[UUID, Finished]:
    return worker.finish([Finish(job.id, job.epoch, job.claim_id, verb) for job in jobs])


def age(platform: Platform, seconds: float) -> None:
    run_sql(
        platform, "UPDATE callboard.grants SET started_at = started_at - make_interval(secs => :s)", s=seconds
    )


def keys_of(platform: Platform, claimed: Sequence[ClaimedJob]) -> Counter[str | None]:
    return Counter(platform.jobs.get(job.id).limit_key for job in claimed)
