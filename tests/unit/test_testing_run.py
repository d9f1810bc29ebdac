"""`run`: a job in this process, without servers, as a worker would run it."""

import asyncio
import time
from datetime import date, timedelta
from uuid import UUID

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Retries, SkipMessage

from callboard import Cancel, Fail, Retry, RetryPolicy, Snooze, current_job, job
from callboard.dramatiq import CallboardBroker
from callboard.jobs.errors import InvalidArguments, InvalidInput
from callboard.testing import Report, RunOutcome, run


@job(queue="mail")
def probe_receipt(order_id: int, on: date | None = None) -> dict[str, object]:
    assert on is None or isinstance(on, date)
    return {"order": order_id, "on": on, "pair": (1, 2)}


@job(retry=RetryPolicy(max_attempts=3))
def probe_flaky(fail_until: int = 99):
    if current_job().attempt < fail_until:
        raise ConnectionError("no line")
    return "sent"


@job
async def probe_async(n: int) -> int:
    await asyncio.sleep(0)
    current_job().progress(0.5, "half")
    return n + 1


@job
def probe_steps(count: int = 3):
    task = current_job()
    for step in range(count):
        task.progress(step / count, f"step {step}")
    task.log.info("done", steps=count)
    return str(task.id)


@job
def probe_outcome(kind: str):
    raise {"cancel": Cancel("stop"), "fail": Fail("for good"), "retry": Retry("5s"), "snooze": Snooze("1h")}[
        kind
    ]


@job(timeout="100ms", retry=RetryPolicy(max_attempts=1))
def probe_slow():
    while True:
        time.sleep(0.01)


@job
def probe_named(attempt: int):
    return attempt


@job
def probe_parent():
    current_job().enqueue("probe_receipt", {"order_id": 1}, delay="1h")
    probe_receipt.send(2)


@job
def probe_unstorable():
    return object()


def test_arguments_and_result_make_a_round_trip_through_json():
    result = run(probe_receipt, 7, on=date(2026, 11, 1))
    assert result.outcome == "succeeded"
    assert result.result == {"order": 7, "on": "2026-11-01", "pair": [1, 2]}
    assert (result.error, result.traceback, result.attempts, result.delays) == (None, "", 1, ())


@pytest.mark.parametrize(
    ("args", "field"), [((), "kwargs.order_id"), (("seven",), "args[0]"), ((1, None, 2), "args[2]")]
)
def test_wrong_arguments_raise_as_at_the_enqueue(args, field):
    with pytest.raises(InvalidArguments) as caught:
        run(probe_receipt, *args)
    assert list(caught.value.fields) == [field]


def test_an_exception_is_an_outcome_of_the_retry_policy():
    result = run(probe_flaky)
    assert result.outcome is RunOutcome.RETRYING
    assert isinstance(result.error, ConnectionError)
    assert "ConnectionError: no line" in result.traceback
    [delay] = result.delays
    assert timedelta(0) <= delay <= timedelta(minutes=1)
    assert run(probe_flaky, attempt=3).outcome == "failed"
    assert run(probe_flaky, attempt=3, max_attempts=4).outcome == "retrying"


def test_a_run_to_the_end_counts_the_attempts_and_does_not_sleep():
    failed = run(probe_flaky, until_end=True)
    assert (failed.outcome, failed.attempts, len(failed.delays)) == ("failed", 3, 2)
    saved = run(probe_flaky, fail_until=2, until_end=True)
    assert (saved.outcome, saved.result, saved.attempts) == ("succeeded", "sent", 2)


def test_an_async_job_runs_on_an_event_loop_and_a_call_of_it_is_its_coroutine():
    result = run(probe_async, 1)
    assert (result.outcome, result.result, result.progress) == ("succeeded", 2, (Report(0.5, "half"),))

    async def in_a_test() -> int:
        return run(probe_async, 5).result

    assert asyncio.run(in_a_test()) == 6
    assert probe_receipt(1)["order"] == 1


def test_reports_and_log_lines_are_kept():
    result = run(probe_steps)
    assert result.progress == (Report(0.0, "step 0"), Report(1 / 3, "step 1"), Report(2 / 3, "step 2"))
    [line] = result.logs
    assert line.level == "info"
    assert "done" in line.message


def test_a_stop_can_be_requested_at_a_report():
    result = run(probe_steps, cancel_at=2)
    assert (result.outcome, result.progress) == ("cancelled", (Report(0.0, "step 0"),))
    assert isinstance(result.error, Cancel)
    assert run(probe_steps, cancel_at=0).progress == ()


@pytest.mark.parametrize(
    ("kind", "outcome", "delays"),
    [("cancel", "cancelled", ()), ("fail", "failed", ()), ("retry", "retrying", (timedelta(seconds=5),)),
     ("snooze", "snoozed", (timedelta(hours=1),))],
)  # fmt: skip
def test_an_outcome_that_the_job_raises_decides(kind, outcome, delays):
    result = run(probe_outcome, kind)
    assert (result.outcome, result.delays) == (outcome, delays)


def test_an_endless_snooze_is_an_error():
    with pytest.raises(InvalidInput, match="has not ended after 1000 attempts"):
        run(probe_outcome, "snooze", until_end=True)


def test_a_timeout_interrupts_the_job():
    result = run(probe_slow)
    assert result.outcome == "failed"
    assert "timeout of 0.1 s" in str(result.error)


def test_a_result_that_cannot_be_stored_fails_the_job():
    result = run(probe_unstorable)
    assert result.outcome == "failed"
    assert "cannot be" in str(result.error) or "refused" in str(result.error)


def test_the_running_job_has_the_given_id():
    given = UUID("01a2266f-9e2f-71e3-8a0c-4d85b841a99d")
    assert run(probe_steps, job_id=given).result == str(given)


def test_an_argument_with_the_name_of_an_option_must_be_told_apart():
    with pytest.raises(InvalidInput, match=r"arguments=\{'attempt': \.\.\.\}"):
        run(probe_named, attempt=2)
    assert run(probe_named, arguments={"attempt": 5}).result == 5
    assert run(probe_named, 6).result == 6


def test_what_the_job_enqueues_is_recorded_without_servers():
    result = run(probe_parent)
    assert [(one.name, one.args or one.kwargs, one.source) for one in result.enqueued] == [
        ("probe_receipt", {"order_id": 1}, "job"), ("probe_receipt", [2], "job"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        ("job_id", 7),
        ("job_id", "seven"),
        ("arguments", [1]),
        ("attempt", 0),
        ("attempt", "1"),
        ("cancel_at", 1.5),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(option, bad):
    with pytest.raises(InvalidInput, match=option.replace("job_id", "not a valid id")):
        run(probe_async, 1, **{option: bad})


def test_what_is_no_job_is_refused():
    with pytest.raises(InvalidInput, match="is not a job"):
        run(len, 1)


def test_a_failure_of_pytest_inside_a_job_fails_the_test():
    @job(name="probe_skips")
    def skips():
        pytest.fail("in the job")

    with pytest.raises(pytest.fail.Exception, match="in the job"):
        run(skips)


def test_plain_actors_of_any_broker_have_their_own_retries_and_results():
    broker = StubBroker()

    @dramatiq.actor(broker=broker, max_retries=1, actor_name="probe_plain")
    def plain(a, b=2):
        if a < 0:
            raise ValueError(a)
        return a + b

    assert run(plain, 1).result == 3
    assert run(plain, 1, b=5).result == 6
    assert run(plain, -1, until_end=True).attempts == 2
    with pytest.raises(InvalidArguments):
        run(plain)


def test_middleware_and_followers_of_actors_take_part():
    seen = []

    class Witness(dramatiq.Middleware):
        def before_process_message(self, broker, message):
            seen.append(message.args)
            if message.args == (0,):
                raise SkipMessage("no")

    broker = CallboardBroker(middleware=[Witness()])

    @dramatiq.actor(broker=broker, actor_name="probe_follower")
    def follower(message_data, result):
        return None

    @dramatiq.actor(broker=broker, actor_name="probe_leader", on_success="probe_follower")
    def leader(n):
        return n

    result = run(leader, 4)
    assert [(one.name, one.args[1]) for one in result.enqueued] == [("probe_follower", 4)]
    assert run(leader, 0).outcome == "cancelled"
    assert seen == [(4,), (0,)]


def test_an_actor_has_the_middleware_of_its_broker_and_that_alone():
    seen = []

    class Witness(dramatiq.Middleware):
        def __init__(self, name):
            self.name = name

        def before_process_message(self, broker, message):
            seen.append((self.name, type(broker), message.actor_name))

    one = StubBroker(middleware=[Retries(max_retries=1), Witness("one")])
    other = StubBroker(middleware=[Witness("other")])

    @dramatiq.actor(broker=one, actor_name="probe_of_one")
    def of_one(n):
        raise ValueError(n)

    @dramatiq.actor(broker=other, actor_name="probe_of_other")
    def of_other(n):
        of_one.send(n)

    assert run(of_one, 1, until_end=True).attempts == 2
    sent = run(of_other, 1)
    assert [(each.name, each.max_attempts) for each in sent.enqueued] == [("probe_of_one", 2)]
    assert seen == [("one", StubBroker, "probe_of_one")] * 2 + [("other", StubBroker, "probe_of_other")]
