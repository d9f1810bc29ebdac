"""`why`: every reason for which a job does not run is named, and only those that hold."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.errors import NotFound
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate.reasons import Code
from callboard.scheduler.leader import Leader
from tests.integration.core.factories import claimed, enqueue, execution, lease, put_job, run_out, run_sql


def why(platform, job) -> dict[Code, dict]:
    """The reasons by code, in their order, with their data."""
    return {reason.code: reason.data for reason in platform.why.explain(job).reasons}


def codes(platform, job) -> list[Code]:
    return list(why(platform, job))


@pytest.fixture
def led(platform):
    """A platform whose scheduler leads, with one worker that has nothing to do."""
    leader = Leader(platform.database)
    leader.check()
    assert leader.leads
    lease(platform)
    yield platform
    leader.resign()


def limit(platform, **limits) -> None:
    columns = ", ".join(f"{name} = :{name}" for name in limits)
    run_sql(platform, "INSERT INTO callboard.queues (name) VALUES ('reports') ON CONFLICT DO NOTHING")
    run_sql(platform, f"UPDATE callboard.queues SET {columns} WHERE name = 'reports'", **limits)


def put(platform, state=JobState.QUEUED, **columns):
    with platform.database.transaction() as connection:
        return put_job(connection, state, **{"expires_at": None, "started_at": None, **columns}).id


def grant(platform, *, job=None, ago=None, key=None) -> None:
    run_sql(
        platform,
        "INSERT INTO callboard.grants (job_id, epoch, queue, limit_key, started_at)"
        " VALUES (:job, 0, 'reports', :key, now() - CAST(:ago AS interval))",
        job=job or new_id(), key=key, ago=ago,
    )  # fmt: skip


def oldest(platform, *, within):
    """When the oldest of the grants that count was made."""
    statement = (
        "SELECT min(started_at) FROM callboard.grants WHERE started_at > now() - CAST(:within AS interval)"
    )
    with platform.database.autocommit() as connection:
        return connection.execute(text(statement), {"within": within}).scalar_one()


def test_of_a_job_that_is_not_there_there_is_nothing_to_say(platform):
    with pytest.raises(NotFound):
        platform.why.explain(new_id())


def test_nothing_stands_in_the_way_of_a_job_that_a_worker_can_take(led):
    (job,) = enqueue(led)
    explained = led.why.explain(job)
    assert (explained.job_id, explained.queue, explained.state) == (job, "reports", JobState.QUEUED)
    assert [reason.message for reason in explained.reasons] == [
        "nothing blocks it: it should start within a second"
    ]


@pytest.mark.parametrize(
    ("state", "columns", "said"),
    [
        (JobState.SUCCEEDED, {}, "it succeeded"),
        (JobState.FAILED, {"errors": '[{"class": "ValueError", "message": "no such account"}]'},
         "(ValueError: no such account); run it again: callboard job retry"),
        (JobState.CANCELLED, {"cancel_requested_at": "2026-01-01T00:00:00Z"}, "it was cancelled"),
        (JobState.CANCELLED, {"progress_note": "expired"}, "it expired"),
        (JobState.QUARANTINED, {"crash_count": 3}, "3 workers died while it ran"),
    ],
)  # fmt: skip
def test_a_finished_job_says_how_it_ended_and_no_more(led, state, columns, said):
    job = put(led, state, **columns)
    (reason,) = led.why.explain(job).reasons
    assert reason.code is Code.FINISHED
    assert said in reason.message
    assert reason.data["state"] == state


def test_a_running_job_names_its_worker_and_that_it_should_stop(led):
    with execution(led) as worker:
        (job,) = claimed(led, worker)
        assert why(led, job.id)[Code.RUNNING]["worker"] == "host:1"
        assert codes(led, job.id) == [Code.RUNNING]
        led.control.cancel(job.id)
        assert codes(led, job.id) == [Code.RUNNING, Code.CANCEL_REQUESTED]


@pytest.mark.parametrize(
    ("verb", "put_off", "kind"),
    [(Verb.RETRY, None, "retry"), (Verb.SNOOZE, None, "snooze"), (Verb.SNOOZE, "w: does not know it", "put_off")],
)  # fmt: skip
def test_a_job_that_is_not_due_says_when_and_what_for(led, verb, put_off, kind):
    with execution(led) as worker:
        (job,) = claimed(led, worker)
        worker.finish([
            Finish(job.id, job.epoch, job.claim_id, verb, delay=timedelta(hours=1), put_off=put_off)
        ])  # fmt: skip
    found = why(led, job.id)
    assert found[Code.NOT_DUE]["kind"] == kind
    assert found[Code.NOT_DUE]["run_at"] == led.jobs.get(job.id).run_at
    assert list(found) == [Code.NOT_DUE] + ([Code.PUT_OFF] if put_off else [])


def test_a_delayed_job_is_not_due_and_needs_a_scheduler_to_become_so(platform):
    lease(platform)
    (job,) = enqueue(platform, delay="1h")
    assert why(platform, job)[Code.NOT_DUE]["kind"] == "delay"
    assert codes(platform, job) == [Code.NOT_DUE, Code.NO_SCHEDULER]
    run_sql(platform, "UPDATE callboard.jobs SET run_at = now() - interval '1s'")
    assert codes(platform, job) == [Code.NO_SCHEDULER]


def test_a_waiting_job_waits_for_its_parents(led):
    assert codes(led, put(led, JobState.WAITING)) == [Code.WAITING_FOR_PARENTS]


def test_a_paused_queue_says_how_to_resume_it(led):
    (job,) = enqueue(led)
    run_sql(led, "INSERT INTO callboard.queues (name) VALUES ('reports') ON CONFLICT DO NOTHING")
    led.queues.pause("reports")
    (reason,) = led.why.explain(job).reasons
    assert reason.code is Code.QUEUE_PAUSED
    assert reason.message.endswith("; resume it: callboard queue resume reports")


def test_a_concurrency_that_is_used_up_names_the_jobs_that_use_it(led):
    with execution(led) as worker:
        running = {job.id for job in claimed(led, worker, 2)}
        granted, job, keyed = *enqueue(led, 2), *enqueue(led, limit_key="seven")
        grant(led, job=granted)
        limit(led, concurrency=4)
        assert Code.QUEUE_CONCURRENCY not in codes(led, job)
        limit(led, concurrency=3)
        used = why(led, job)[Code.QUEUE_CONCURRENCY]
        assert (used["limit"], set(used["jobs"])) == (3, {*running, granted})
        assert codes(led, job)[0] is Code.QUEUE_CONCURRENCY
        # what has its grant is on its way
        assert Code.QUEUE_CONCURRENCY not in codes(led, granted)
        limit(led, concurrency=None, key_concurrency=1)
        assert Code.KEY_CONCURRENCY not in codes(led, keyed)
        run_sql(led, "UPDATE callboard.jobs SET limit_key = 'seven' WHERE state = 'running'")
        assert why(led, keyed)[Code.KEY_CONCURRENCY]["limit_key"] == "seven"
        # no key, no limit of a key
        assert Code.KEY_CONCURRENCY not in codes(led, job)


def test_a_rate_that_is_used_up_says_when_there_is_room_again(led):
    job, keyed = *enqueue(led), *enqueue(led, limit_key="seven")
    limit(led, rate=2, rate_period=timedelta(minutes=1))
    grant(led, ago="50s")
    grant(led, ago="61s")
    assert Code.QUEUE_RATE not in codes(led, job)
    grant(led, ago="20s", key="seven")
    explained = led.why.explain(job)
    (reason,) = [reason for reason in explained.reasons if reason.code is Code.QUEUE_RATE]
    assert reason.data["next_at"] == oldest(led, within="1m") + timedelta(minutes=1)
    assert (
        "the queue reports has started or granted 2 in 1m, as many as are allowed; the next may start in"
        in reason.text
    )
    # a row that stands for three: room comes once so many of the oldest are back that less than the rate is
    # left
    run_sql(led, "UPDATE callboard.grants SET uses = 3 WHERE started_at < now() - interval '45s'")
    (reason,) = [reason for reason in led.why.explain(job).reasons if reason.code is Code.QUEUE_RATE]
    assert reason.data["next_at"] == oldest(led, within="1m") + timedelta(minutes=1)
    limit(led, rate=None, rate_period=None, key_rate=1, key_rate_period=timedelta(minutes=1))
    assert Code.KEY_RATE in codes(led, keyed)
    assert Code.KEY_RATE not in codes(led, job)


def test_a_limited_queue_is_fed_by_the_scheduler_alone_which_comes_first_then(platform):
    lease(platform)
    (job,) = enqueue(platform)
    assert codes(platform, job) == [Code.NO_SCHEDULER]
    platform.queues.pause("reports")
    assert codes(platform, job) == [Code.QUEUE_PAUSED, Code.NO_SCHEDULER]
    limit(platform, concurrency=1)
    assert codes(platform, job) == [Code.NO_SCHEDULER, Code.QUEUE_PAUSED]


def test_a_solo_job_says_who_will_run_it_and_passes_the_backlog(led):
    enqueue(led)
    assert why(led, put(led, solo=True, run_at="2030-01-01T00:00:00Z")) == {Code.SOLO: {"hosts": ["host"]}}


def test_without_a_live_worker_for_the_queue_nothing_runs(led):
    (job,) = enqueue(led, queue="mail")
    worker = new_id()
    led.workers.register(WorkerCard(worker, "other", 2, ("reports",), ("build_report",), 8, 64))
    assert codes(led, job) == [Code.READY]
    run_sql(led, "UPDATE callboard.workers SET draining_since = now() WHERE hostname = 'host'")
    assert codes(led, job) == [Code.NO_WORKER]
    run_sql(led, "UPDATE callboard.workers SET draining_since = NULL")
    assert codes(led, job) == [Code.READY]
    run_sql(led, "UPDATE callboard.workers SET lease_expires_at = now() WHERE hostname = 'host'")
    assert codes(led, job) == [Code.NO_WORKER]
    run_out(led, worker)
    assert codes(led, enqueue(led)[0]) == [Code.NO_WORKER]


def test_a_name_that_no_live_worker_knows_is_said_to_be_unknown(led):
    (job,) = enqueue(led, name="send_mail")
    assert why(led, job) == {Code.JOB_UNKNOWN: {"queue": "reports", "name": "send_mail", "workers": 1}}


def test_workers_whose_threads_are_all_taken_are_busy(led):
    with execution(led) as worker:
        # the fixture's idle worker goes, and leaves the one that holds eight jobs
        run_sql(led, "DELETE FROM callboard.workers WHERE id <> :id", id=worker.worker)
        claimed(led, worker, 7)
        (job,) = enqueue(led)
        assert codes(led, job) == [Code.READY]
        worker.claim([(job, 0)])
        (job,) = enqueue(led)
        assert why(led, job) == {Code.WORKERS_BUSY: {"workers": 1, "threads": 8, "running": 8, "slots": 64}}


def test_a_job_that_was_put_off_says_how_often_and_why(led):
    job = put(led, put_off=3, put_off_reason="host:1: does not know the job 'x'")
    assert why(led, job) == {Code.PUT_OFF: {"times": 3, "reason": "host:1: does not know the job 'x'"}}


def test_the_backlog_counts_what_is_more_urgent_in_its_own_queue(led):
    late, urgent = *enqueue(led, priority=9), *enqueue(led, priority=0)
    enqueue(led, 3)
    enqueue(led, 5, queue="mail")
    enqueue(led, 2, delay="1h", priority=0)
    assert codes(led, urgent) == [Code.READY]
    assert why(led, late) == {Code.BACKLOG: {"queue": "reports", "ahead": 4, "at_least": False}}


@pytest.mark.long
def test_a_long_backlog_is_counted_as_far_as_it_needs_to_be(led):
    for _ in range(3):
        enqueue(led, 4_000)
    (job,) = enqueue(led)
    assert why(led, job)[Code.BACKLOG] == {"queue": "reports", "ahead": 10_000, "at_least": True}


def test_an_expiry_that_is_near_is_told_after_everything_else(led):
    near = put(led, JobState.SCHEDULED, run_at="2040-01-01T00:00:00Z")
    run_sql(led, "UPDATE callboard.jobs SET expires_at = now() + interval '1 minute'")
    assert codes(led, near) == [Code.NOT_DUE, Code.EXPIRES_SOON]
    run_sql(led, "UPDATE callboard.jobs SET expires_at = now() + interval '1 day'")
    assert codes(led, near) == [Code.NOT_DUE]


def test_all_reasons_that_hold_are_named_in_their_order(platform):
    lease(platform)
    enqueue(platform, 2)
    job = put(platform, run_at="2030-01-01T00:00:00Z", name="send_mail", put_off=1, put_off_reason="no")
    platform.queues.pause("reports")
    assert codes(platform, job) == [
        Code.QUEUE_PAUSED, Code.JOB_UNKNOWN, Code.PUT_OFF, Code.BACKLOG, Code.NO_SCHEDULER,
    ]  # fmt: skip
