"""Steps of the tests of limits: set them, let a round grant, claim what came of it."""

from collections import Counter

from callboard.jobs.model.endings import Finish
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.states import Verb
from callboard.jobs.redis.transport import read_token
from tests.integration.core.factories import run_sql


def limit(platform, queue="reports", **given):
    return platform.queues.limit(queue, Limits.read(**given))


def tokens(platform, queue="reports"):
    return [read_token(raw) for raw in platform.transport.pop([queue], 5_000, 0.01)]


def started(platform, feeder, worker):
    """What a round and a claim of all that came of it start."""
    feeder.round()
    return worker.claim(tokens(platform))


def end(worker, jobs, verb=Verb.COMPLETE):
    return worker.finish([Finish(job.id, job.epoch, job.claim_id, verb) for job in jobs])


def age(platform, seconds):
    run_sql(
        platform, "UPDATE callboard.grants SET started_at = started_at - make_interval(secs => :s)", s=seconds
    )


def keys_of(platform, claimed):
    return Counter(platform.jobs.get(job.id).limit_key for job in claimed)
