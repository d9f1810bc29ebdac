"""Dramatiq's hooks around an attempt, and what follows from its end: the same for sync and async jobs.

Without middleware of the user's own, and for jobs from which nothing follows, all of it is a few comparisons.
"""

from threading import Event, local
from typing import TYPE_CHECKING, Any

from dramatiq.middleware import MiddlewareError, SkipMessage

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.model.outcomes import Outcome
from callboard.jobs.model.states import Verb
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.following import followers

if TYPE_CHECKING:
    from callboard.workers.execute.runner import AttemptMessage


class CurrentAttempt:
    """Hands the attempt from the message to the runner, which Dramatiq calls with arguments alone."""

    def __init__(self) -> None:
        self._here = local()

    def put(self, attempt: Attempt) -> None:
        self._here.attempt = attempt

    def peek(self) -> Attempt | None:
        """The attempt that is about to run in this thread."""
        return getattr(self._here, "attempt", None)

    def take(self) -> Attempt | None:
        attempt = self.peek()
        self._here.attempt = None
        return attempt


class Hooks:
    """Calls the hooks of a broker's middleware, in whichever thread the attempt runs."""

    def __init__(self, broker: CallboardBroker, draining: Event) -> None:
        self._broker = broker
        self._draining = draining

    def concern(self, attempt: Attempt) -> bool:
        """Whether anything here is to be done for an attempt."""
        return (
            attempt.job.options is not None
            or self._broker.watched
            or bool(attempt.definition.message_options)
        )

    def before(self, message: "AttemptMessage") -> None:
        """Before it runs; raises what middleware says against that (SkipMessage, another MiddlewareError)."""
        if not self._broker.hooks("before_process_message"):
            return
        if self._draining.is_set():
            # It is handed back; no hook has seen it.
            message.attempt.unstarted = True
            raise SkipMessage("the worker is draining")
        try:
            CallboardBroker.emit_before(self._broker, "process_message", message)
        except MiddlewareError as error:
            message.refusal = error
            raise

    def skipped(self, message: "AttemptMessage") -> None:
        """Middleware, or the job itself, has raised SkipMessage."""
        attempt = message.attempt
        if attempt.unstarted:
            return
        if attempt.finish is None:
            attempt.skipped(message.refusal or SkipMessage("skipped by middleware"), failed=message.failed)
        CallboardBroker.emit_after(self._broker, "skip_message", message)

    def after(self, message: "AttemptMessage", exception: BaseException | None) -> None:
        """It has ended, as its `finish` says; middleware may still make a failure of it by `message.fail()`."""
        attempt = message.attempt
        if exception is None and not message.failed and not self.concern(attempt):
            # Most jobs: nobody watches, and nothing follows.
            attempt.value = None
            return
        if attempt.finish is None and not attempt.unstarted:
            if exception is not None:
                attempt.raised(exception)
            else:
                attempt.skipped(SkipMessage("failed by middleware"), failed=True)
        if attempt.finish is not None and attempt.finish.verb is Verb.FAIL:
            message.failed = True
        if self._broker.hooks("after_process_message"):
            CallboardBroker.emit_after(
                self._broker, "process_message", message, result=attempt.value, exception=exception
            )
            if message.failed and attempt.finish is not None and attempt.finish.verb is Verb.COMPLETE:
                attempt.skipped(SkipMessage("failed by middleware"), failed=True)
        if attempt.finish is not None and (
            attempt.job.options is not None or attempt.definition.message_options
        ):
            # An outcome that was returned means what it means when it is raised.
            returned = attempt.value if isinstance(attempt.value, Outcome) else None
            children = followers(self._broker, message, attempt.finish, exception or returned)
            if children:
                attempt.finish = attempt.finish._replace(children=children)
        attempt.value = None

    def acknowledge(self, message: "AttemptMessage") -> None:
        """What Dramatiq's own threads do with a sync job's message at its end."""
        signal: Any = "nack" if message.failed else "ack"
        self._broker.emit_before(signal, message)
        self._broker.emit_after(signal, message)
