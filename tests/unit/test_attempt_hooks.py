"""The hooks of middleware around an attempt, with the options that Dramatiq's own middleware would set."""

import time
from threading import Event

import pytest
from dramatiq.middleware import Middleware, MiddlewareError, SkipMessage

from callboard.jobs.model.basics.ids import id_of
from callboard.workers.board import Board
from callboard.workers.execute.attempt_message import AttemptMessage
from callboard.workers.execute.worker_broker import WorkerBroker
from tests.unit.attempts import attempt_of


class Watching(Middleware):
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.sent: list[tuple[dict, int]] = []

    def before_enqueue(self, broker, message, delay):
        self.sent.append((dict(message.options), delay))
        message.options["hops"] = message.options.get("hops", 0) + 1

    def after_ack(self, broker, message):
        self.seen.append("ack")

    def after_nack(self, broker, message):
        self.seen.append("nack")

    def after_skip_message(self, broker, message):
        self.seen.append("skip")


class Refusing(Watching):
    def before_enqueue(self, broker, message, delay):
        raise MiddlewareError("no")


def nowhere():
    raise AssertionError("nothing connects here")


def concluded(attempt, watching, error):
    """Let the hooks of this middleware see the end of an attempt."""
    broker = WorkerBroker(nowhere, Event(), middleware=[watching])
    message = AttemptMessage(attempt)
    attempt.begin(Board(1).writer())
    broker.around.conclude(message, attempt.conclude(None, error))
    return message


def fails():
    raise ValueError


def test_a_retry_is_sent_again_with_the_options_that_dramatiq_sets():
    attempt, watching = attempt_of(fails, attempt=2), Watching()
    message = concluded(attempt, watching, ValueError("no"))
    ((options, delay),) = watching.sent
    assert options.keys() == {"eta", "retries", "requeue_timestamp", "traceback"}
    assert options["retries"] == 2
    assert "ValueError: no" in options["traceback"]
    assert options["eta"] >= options["requeue_timestamp"] + delay
    # what a hook adds is there in the next attempt, and the platform's own options are not stored
    assert message.options["hops"] == 1
    assert attempt.finish.message_options == b'{"hops":1}'


def test_the_last_failure_is_rejected_with_the_options_that_dramatiq_sets():
    watching = Watching()
    message = concluded(attempt_of(fails, attempt=3), watching, ValueError("no"))
    assert watching.seen == ["nack"]
    assert watching.sent == []
    assert message.options["retries"] == 3
    assert "ValueError: no" in message.options["traceback"]


def test_a_hook_that_refuses_a_retry_does_not_stop_it():
    attempt = attempt_of(fails)
    message = concluded(attempt, Refusing(), ValueError("no"))
    assert attempt.finish.verb == "retry"
    assert "eta" not in message.options


def test_a_message_that_is_too_old_is_skipped_and_rejected():
    attempt, watching = attempt_of(fails, options={"message": {"max_age": 0.001}}), Watching()
    with pytest.raises(SkipMessage, match="Message age limit exceeded") as raised:
        attempt.arguments()
    message = concluded(attempt, watching, raised.value)
    assert watching.seen == ["skip", "nack"]
    assert isinstance(message._exception, SkipMessage)


def test_a_message_grows_old_from_when_it_was_made_not_from_when_it_was_sent():
    hour_old = id_of("old", int(time.time() * 1000) - 3_600_000)
    options = {"message": {"max_age": 1_800_000}}
    attempt_of(fails, options=options).arguments()
    with pytest.raises(SkipMessage, match="Message age limit exceeded"):
        attempt_of(fails, options=options, id=hour_old).arguments()
