"""What follows from an end is enqueued with it, or not at all."""

from datetime import timedelta

import dramatiq
import pytest
from dramatiq.rate_limits import Barrier

from callboard.jobs.dramatiq.actor import job
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.rate_limits import PostgresLimits
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.ids import id_of, made_at, new_id
from callboard.jobs.model.dispatch import Dispatch
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.request import job_request
from callboard.jobs.model.retry import UNLIMITED_ATTEMPTS
from callboard.jobs.model.states import JobState, Verb
from tests.integration.core.factories import at_once, claimed, count, execution, lease, run_sql, states


@pytest.fixture
def broker(platform, monkeypatch):
    made = CallboardBroker(lambda: platform, middleware=[])
    monkeypatch.setattr(dramatiq.broker, "global_broker", made)
    return made


def following(name="next", **more):
    return Dispatch(job_request({"name": name, "queue": "default", "unchecked": True}), **more)


def ended(job, verb=Verb.COMPLETE, *children, **more):
    return Finish(job.id, job.epoch, job.claim_id, verb, children=children, **more)


def test_what_follows_is_there_when_the_end_is(platform, worker):
    plain, parent = claimed(platform, worker, 2)
    child = new_id()
    done = worker.finish([ended(plain), ended(parent, Verb.COMPLETE, following(id=child))])
    assert set(done) == {plain.id, parent.id}
    job = platform.jobs.get(child)
    assert (job.name, job.state, job.source, job.source_id) == (
        "next",
        JobState.QUEUED,
        "job",
        str(parent.id),
    )
    # and Redis knows of it
    assert platform.transport.depth("default") == 1


def test_nothing_follows_an_end_that_comes_too_late(platform, worker):
    job = claimed(platform, worker)[0]
    run_sql(platform, "UPDATE callboard.jobs SET epoch = epoch + 1 WHERE id = :id", id=job.id)
    assert worker.finish([ended(job, Verb.COMPLETE, following())]) == {}
    assert count(platform) == 1


def test_an_end_that_is_written_twice_brings_about_its_jobs_once(platform, worker):
    job = claimed(platform, worker)[0]
    end = ended(job, Verb.RETRY, following(), delay=timedelta(hours=1))
    assert worker.finish([end]) == worker.finish([end])
    assert count(platform) == 2


def test_what_cannot_be_enqueued_does_not_keep_the_attempt_from_ending(platform, worker):
    job = claimed(platform, worker)[0]
    bad = Dispatch(job_request({"name": "next", "args": [float("nan")], "unchecked": True}))
    assert worker.finish([ended(job, Verb.COMPLETE, bad, following("good"))])
    assert states(platform, [job.id]) == ["succeeded"]
    assert count(platform) == 2


def test_a_message_that_is_sent_again_is_a_new_job(platform, broker, worker):
    @dramatiq.actor
    def actor():
        """Nothing."""

    message = actor.message()
    ids = {broker.enqueue(message).message_id for _ in range(3)}
    assert len(ids) == 3
    assert str(id_of(message.message_id, message.message_timestamp)) in ids
    # and where it follows from an end
    job = claimed(platform, worker)[0]
    assert worker.finish([ended(job, Verb.COMPLETE, broker.dispatch(message))])
    assert count(platform) == 5


def test_a_barrier_lets_the_last_through_and_nobody_else(platform, worker):
    assert Barrier(PostgresLimits(lambda: platform), "group", ttl=60_000).create(3)
    jobs = claimed(platform, worker, 3)
    last = following("last", barrier="group")
    workers = [worker.finish([ended(job, Verb.COMPLETE, last, last)]) for job in jobs[:2]]
    assert all(workers)
    assert count(platform) == 3
    # both of the callbacks, once all are there
    worker.finish([ended(jobs[2], Verb.COMPLETE, last, last)])
    assert count(platform) == 5


def test_ends_in_one_batch_each_arrive_at_their_barrier(platform, worker):
    assert Barrier(PostgresLimits(lambda: platform), "group", ttl=60_000).create(3)
    jobs = claimed(platform, worker, 3)
    worker.finish([ended(job, Verb.COMPLETE, following("last", barrier="group")) for job in jobs])
    assert count(platform) == 4


def test_ends_that_meet_at_a_barrier_let_one_through(platform):
    limits, number = PostgresLimits(lambda: platform), 6
    assert Barrier(limits, "group", ttl=60_000).create(number)
    lease(platform)

    def end(_):
        with execution(platform) as one:
            job = claimed(platform, one)[0]
            return one.finish([ended(job, Verb.COMPLETE, following("last", barrier="group"))])

    assert all(at_once(number, end))
    assert count(platform) == number + 1


def test_a_counter_that_has_expired_counts_from_nothing(platform):
    limits = PostgresLimits(lambda: platform)
    assert limits.add("key", 5, 60_000)
    assert not limits.add("key", 1, 60_000)
    assert not limits.incr("key", 1, 5, 60_000)
    run_sql(platform, "UPDATE callboard.counters SET expires_at = now() - interval '1s'")
    assert limits.incr("key", 1, 5, 60_000)
    assert limits.incr_and_sum("other", lambda: ["key", "other"], 1, 2, 60_000)
    assert not limits.incr_and_sum("other", lambda: ["key", "other"], 1, 2, 60_000)
    assert limits.decr("key", 1, 0, 60_000)
    assert not limits.decr("key", 1, 0, 60_000)
    assert not limits.wait("event", 5)
    limits.wait_notify("event", 60_000)
    assert limits.wait("event", 5)


def test_a_messages_options_are_kept_and_those_that_mean_something_here_do(platform, broker):
    @dramatiq.actor(max_age=60_000, priority=10, queue_name="mail")
    def actor(x):
        """Nothing."""

    options = {"max_retries": 2, "min_backoff": 1_000, "max_backoff": 500, "time_limit": 3_000, "tenant": [7]}
    sent = actor.send_with_options(args=(1,), **options)
    job = platform.jobs.get(sent.message_id)
    assert job.options == {"min_backoff": 0.5, "max_backoff": 0.5, "message": options}
    assert (job.max_attempts, job.timeout, job.priority, job.queue) == (3, timedelta(seconds=3), 8, "mail")
    assert job.expires_at is not None
    assert (job.expires_at.timestamp() - 60) * 1000 == pytest.approx(made_at(job.id))
    endless = platform.jobs.get(
        actor.send_with_options(args=(1,), max_retries=None, time_limit=float("inf")).message_id
    )
    assert endless.max_attempts == UNLIMITED_ATTEMPTS
    assert endless.options == {"message": {"max_retries": None}}
    assert platform.jobs.get(actor.send(1).message_id).options is None


@pytest.mark.parametrize("option", ["unique_key", "priority", "run_at", "tags", "max_attempts"])
def test_an_option_that_a_message_would_carry_without_effect_is_refused(platform, broker, option):
    @job
    def actor(x):
        """Nothing."""

    with pytest.raises(InvalidInput, match=rf"use \.with_options\({option}=\.\.\.\)\.enqueue"):
        actor.send_with_options(args=(1,), **{option: "1"})
    assert count(platform) == 0


@pytest.mark.parametrize("published", [True, False])
def test_a_message_for_another_program_of_the_application_gets_the_full_name(
    platform, broker, monkeypatch, published
):
    monkeypatch.setattr(platform.catalogue, "app", "billing")
    if published:
        kind = JobType("billing.sent_elsewhere", "default", {"type": "object"}, 5, 10, None, "")
        platform.catalogue.publish([kind])
        platform.catalogue.forget()
    message = dramatiq.Message("default", "sent_elsewhere", (), {}, {})
    accepted = broker.enqueue(message)
    assert accepted.actor_name == "sent_elsewhere"
    name = platform.jobs.get(accepted.message_id).name
    assert name == ("billing.sent_elsewhere" if published else "sent_elsewhere")
