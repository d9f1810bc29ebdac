"""Middleware hooks around an attempt, and the jobs that follow from its end.

The same for sync and async jobs.
"""

from threading import Event, local
from typing import Any

from dramatiq.middleware import MiddlewareError, SkipMessage

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.model.outcomes import Outcome
from callboard.jobs.model.states import Verb
from callboard.workers.execute.attempt import TOO_OLD, Attempt
from callboard.workers.execute.attempt_message import AttemptMessage
from callboard.workers.execute.following import followers, note_failure, send_again


class CurrentAttempt:
    """The attempt that the current thread is about to run.

    Dramatiq calls a runner with the arguments alone.
    """

    def __init__(self) -> None:
        self._local = local()

    def put(self, attempt: Attempt) -> None:
        self._local.attempt = attempt

    def peek(self) -> Attempt | None:
        """Return the attempt that is about to run in this thread."""
        return getattr(self._local, "attempt", None)

    def take(self) -> Attempt | None:
        """Return the attempt that is about to run in this thread, and remove it."""
        attempt = self.peek()
        self._local.attempt = None
        return attempt


class Hooks:
    """Calls the hooks of a broker's middleware, in the thread in which the attempt runs."""

    def __init__(self, broker: CallboardBroker, draining: Event) -> None:
        self._broker = broker
        self._draining = draining

    def concern(self, attempt: Attempt) -> bool:
        """Return whether the hooks have anything to do for an attempt."""
        return attempt.has_message_options or self._broker.watched

    @property
    def may_block(self) -> bool:
        """Whether the hooks of async jobs run in a thread: any may block, unless its class says otherwise."""
        return self._broker.watched and self._broker.may_block

    def refusal(self, message: AttemptMessage) -> BaseException | None:
        """Call the hooks before an async attempt; return the error by which one refuses to run it."""
        try:
            self.before(message)
        except BaseException as error:  # noqa: BLE001 - as in Dramatiq, it is the end of the attempt
            return error
        return None

    def conclude(self, message: AttemptMessage, error: BaseException | None) -> None:
        """Call the hooks after an async attempt, and acknowledge its message."""
        if error is not None and issubclass(type(error), SkipMessage):
            self.skipped(message)
        else:
            self.after(message, error)
        if not message.attempt.unstarted:
            self.acknowledge(message)

    def before(self, message: AttemptMessage) -> None:
        """Call the hooks before the attempt.

        Raises SkipMessage or another MiddlewareError when one refuses to run it.
        """
        if not self._broker.hooks("before_process_message"):
            return
        if self._draining.is_set():
            # The job is handed back, and no hook has seen it.
            message.attempt.unstarted = True
            raise SkipMessage("the worker is draining")
        try:
            CallboardBroker.emit_before(self._broker, "process_message", message)
        except MiddlewareError as error:
            message.refusal = error
            raise

    def skipped(self, message: AttemptMessage) -> None:
        """Record that middleware, or the job itself, raised SkipMessage."""
        attempt = message.attempt
        if attempt.unstarted:
            return
        if attempt.finish is None:
            attempt.skipped(message.refusal or SkipMessage("skipped by middleware"), failed=message.failed)
        if attempt.too_old:
            # As in Dramatiq, where the message is rejected.
            message.fail()
            message.stuff_exception(SkipMessage(TOO_OLD))
        CallboardBroker.emit_after(self._broker, "skip_message", message)

    def after(self, message: AttemptMessage, exception: BaseException | None) -> None:
        """Call the hooks after the attempt.

        A hook may still turn a success into a failure with `message.fail()`.
        """
        attempt = message.attempt
        if exception is None and not message.failed and not self.concern(attempt):
            # The usual case: no hook listens and no job follows.
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
        # A returned outcome has the same effect as a raised one.
        returned = attempt.value if issubclass(type(attempt.value), Outcome) else None
        error = returned if exception is None else exception
        if attempt.finish is not None and error is not None:
            note_failure(message, attempt.finish, error)
        if attempt.finish is not None and attempt.has_message_options:
            children = followers(self._broker, message, attempt.finish, error)
            if children:
                attempt.finish = attempt.finish._replace(children=children)
        if attempt.finish is not None and attempt.finish.verb is Verb.RETRY and self._broker.watched:
            send_again(self._broker, message, attempt.finish)
            attempt.finish = attempt.finish._replace(message_options=message.changed_options())
        attempt.value = None

    def acknowledge(self, message: AttemptMessage) -> None:
        """Send the signals that Dramatiq's own threads send at the end of a sync job's message."""
        signal: Any = "nack" if message.failed else "ack"
        self._broker.emit_before(signal, message)
        self._broker.emit_after(signal, message)
