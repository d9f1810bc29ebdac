"""An attempt in this process: the claimed job, its definition, and how it ended."""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final, cast

from dramatiq.errors import Retry as DramatiqRetry
from dramatiq.middleware import SkipMessage, TimeLimitExceeded

from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.error_text import runs_own_code
from callboard.jobs.attempts.put_off import Misfit, put_off
from callboard.jobs.attempts.verdict import TimedOut, Verdict
from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.jobs.errors import InvalidArguments
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.model.basics.ids import made_at
from callboard.jobs.model.basics.waits import seconds_of
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.outcomes import Cancel, Fail
from callboard.jobs.model.retry import LONGEST_DELAY
from callboard.workers.board import BoardWriter
from callboard.workers.execute.caught_interrupts import end_of
from callboard.workers.execute.interrupts import (
    CancelInterrupt,
    JobInterrupt,
    ShutdownInterrupt,
    TimeoutInterrupt,
)

#: If a `@job` sets only the timeout, its hard timeout comes this much later. A plain actor has none.
HARD_TIMEOUT_MARGIN: Final = timedelta(seconds=30)
#: The text is the same as Dramatiq's.
TOO_OLD: Final = "Message age limit exceeded"


class JobKind(StrEnum):
    """Where a job runs: in a thread, or on the event loop (`async def`)."""

    SYNC = "sync"
    ASYNC = "async"

    @classmethod
    def of(cls, definition: JobDefinition) -> "JobKind":
        """Return the kind of a job with this definition."""
        return cls.ASYNC if definition.is_async else cls.SYNC


class _TimedOut(TimedOut, TimeLimitExceeded):
    """TimedOut, which `throws` and `retry_when` of a Dramatiq actor match as TimeLimitExceeded."""

    stored_as = TimedOut.stored_as


class PutOff(SkipMessage):
    """This worker cannot run the job; the job's function is not called.

    Middleware sees a skipped message.
    """

    def __init__(self, misfit: Misfit, problem: str) -> None:
        super().__init__(problem)
        self.misfit = misfit
        self.problem = problem


class Attempt:
    """One claimed job on its way through the worker. `finish` is set when it has ended."""

    __slots__ = (
        "_board", "_clock", "_place", "_verdict", "began_at", "claimed_at", "deadline", "definition",
        "ended_at", "finish", "has_message_options", "interrupt", "interrupted", "job", "kind",
        "raised_inside", "running", "too_old", "unstarted", "value",
    )  # fmt: skip

    _board: BoardWriter

    def __init__(
        self, job: ClaimedJob, definition: JobDefinition, running: RunningJob, verdict: Verdict, clock: Clock
    ) -> None:
        self.job = job
        self.definition = definition
        self.kind = JobKind.ASYNC if definition.is_async else JobKind.SYNC
        #: Whether the message or its actor has Dramatiq options, such as callbacks and max_age.
        self.has_message_options = job.options is not None or bool(definition.message_options)
        self.running = running
        self.finish: Finish | None = None
        #: True when the worker drains, or has too many jobs, before the attempt starts: the job is handed
        #: back.
        self.unstarted = False
        #: Whether the attempt is skipped because the message has exceeded its max_age.
        self.too_old = False
        #: Interrupts the attempt; set while its function runs.
        self.interrupt: Callable[[type[JobInterrupt]], bool] | None = None
        #: The reason of the last interrupt.
        self.interrupted: type[JobInterrupt] | None = None
        #: The interrupt that was raised inside the job's function: the weightiest, if there were several.
        self.raised_inside: type[JobInterrupt] | None = None
        #: What the job returned; cleared after the middleware hooks have seen it.
        self.value: Any = None
        self.claimed_at = clock.monotonic()
        self.began_at: float | None = None
        self.ended_at = 0.0
        #: When the timeout is over. Monotonic seconds.
        self.deadline: float | None = None
        self._verdict = verdict
        self._clock = clock
        #: Where it stands while it runs, and until its end is committed; -1: nowhere.
        self._place = -1

    @property
    def message(self) -> "Attempt":
        """The attempt itself.

        Dramatiq's threads read the message from an item of the work queue; here both are one.
        """
        return self

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and named arguments to call the job's function with.

        Raises Fail when the stored arguments cannot be read, Cancel when a stop was requested, SkipMessage
        when the message is too old, and PutOff when the arguments do not fit this worker's function: another
        worker may have the version of the function that they were made for.
        """
        args, kwargs = self.job.args, self.job.kwargs
        if args is None or kwargs is None:
            raise Fail("the job's arguments cannot be read")
        if self.running.cancel_requested:
            raise Cancel("cancelled before it began")
        if self.has_message_options:
            self._check_age()
        try:
            return self.definition.binder.bind(args, kwargs)
        except InvalidArguments as error:
            raise PutOff(Misfit.ARGUMENTS, f"cannot call it, {error.message}") from error

    def option(self, name: str) -> Any:
        """Return a Dramatiq option of the message, or of its actor if the message does not set it."""
        sent = (self.job.options or {}).get("message") or {}
        return sent[name] if name in sent else self.definition.message_options.get(name)

    def _is_piped(self) -> bool:
        """Return whether the next job of a pipeline gets the result."""
        sent = (self.job.options or {}).get("message") or {}
        target = sent.get("pipe_target")
        return target is not None and not self.definition.ignores_result(target)

    def _check_age(self) -> None:
        """Raise SkipMessage when the message is older than its max_age.

        Delayed jobs, retries and reruns are not checked here: their `expires_at` is left to the scheduler.
        """
        limit = self.option("max_age")
        at_once = self.job.attempt == 1 and self.job.run_at <= self.job.enqueued_at
        if at_once and isinstance(limit, int | float):
            # A message may be sent long after it was made. The id of its job says when that was.
            since = min(self.job.enqueued_at.timestamp() * 1000, made_at(self.job.id))
            if self._now().timestamp() * 1000 - since >= limit > 0:
                self.too_old = True
                raise SkipMessage(TOO_OLD)

    def begin(self, board: BoardWriter) -> None:
        """Record that the attempt starts now: put it on the board and set its deadlines."""
        now = self._clock.monotonic()
        options = self.definition.options
        limit = self.job.timeout or options.timeout
        hard = self.job.hard_timeout or options.hard_timeout
        if hard is None and limit is not None and self.definition.is_ours:
            hard = limit + HARD_TIMEOUT_MARGIN
        self._board = board
        seconds = hard.total_seconds() if hard else 0.0
        self._place = board.put(self.job.id, now + seconds if hard else 0.0, seconds)
        self.began_at = now
        self.deadline = None if limit is None else now + limit.total_seconds()

    def note_interrupt(self, reason: type[JobInterrupt] | None) -> None:
        """Record that an interrupt was raised inside the job's function. None: there was none."""
        if reason and (self.raised_inside is None or self.raised_inside.weight < reason.weight):
            self.raised_inside = reason

    def conclude(self, value: Any, error: BaseException | None) -> BaseException | None:
        """Record how the job's function ended: with this value, or with this error if there is one.

        An interrupt that the function caught may still decide. Returns what the attempt ended with.
        """
        if self.raised_inside is not None and not self._may_catch(self.raised_inside):
            error = end_of(self.raised_inside, value, error)
        if error is None:
            self.returned(value)
        else:
            self.raised(error)
        return error

    def _may_catch(self, reason: type[JobInterrupt]) -> bool:
        """Return whether the function may catch this interrupt and end in its own way.

        In Dramatiq, an actor that catches TimeLimitExceeded does. That of a coroutine function cannot.
        """
        definition = self.definition
        return reason is TimeoutInterrupt and not definition.is_ours and not definition.is_async

    def returned(self, value: Any) -> None:
        """Record that the job's function returned this value."""
        self.value = value
        self.finish = self._verdict.returned(
            self.job, value, self.definition.options.retry, self._now(),
            needed=self.definition.is_ours or (self.has_message_options and self._is_piped()),
        )  # fmt: skip
        self._ended()

    def raised(self, error: BaseException) -> None:
        """Record that the attempt ended with an exception.

        An interrupt is replaced by the error it stands for.
        """
        # The class itself is asked: `isinstance` may call code of the exception's own.
        kind = type(error)
        if issubclass(kind, ShutdownInterrupt):
            self.unstarted = True
        elif issubclass(kind, CancelInterrupt):
            error = Cancel("cancelled while running")
        elif issubclass(kind, TimeoutInterrupt):
            error = self._timed_out(cast("TimeoutInterrupt", error))
        if type(error) is PutOff:
            self.put_off(error)
        elif issubclass(kind, SkipMessage):
            self.skipped(error)
        elif not self.unstarted:
            self.finish = self._verdict.raised(
                self.job, error, self.definition.options.retry, self._now(), delay=delay_of(error)
            )
        self._ended()

    def may_run_code_of(self, ended: Any) -> bool:
        """Return whether recording this end may run code of an exception, or of the job's retry policy."""
        if not issubclass(type(ended), BaseException):
            return False
        return self.definition.options.retry.runs_own_code or runs_own_code(ended)

    def _timed_out(self, interrupt: TimeoutInterrupt) -> BaseException:
        limit = self.job.timeout or self.definition.options.timeout or timedelta()
        told = f"the attempt took longer than its timeout of {limit.total_seconds():g} s"
        if interrupt.caught is None:
            return _TimedOut(told)
        error = _TimedOut(f"{told}; it caught the interrupt and {interrupt.caught}")
        error.__context__ = interrupt.__context__
        return error

    def skipped(self, reason: BaseException, *, failed: bool = False) -> None:
        """Record that a middleware skipped the job, or that it raised SkipMessage."""
        self.finish = self._verdict.skipped(self.job, reason, self._now(), failed=failed)

    def put_off(self, reason: PutOff) -> None:
        """Record that this worker cannot run the job. The attempt does not count as started."""
        self.began_at = None
        self.finish = put_off(self.job, self._verdict.worker, reason.misfit, reason.problem)

    def refuse(self, problem: str) -> None:
        """Record that the job's row cannot be used. The job fails: guessed values might do harm."""
        reason = Fail(f"the job's row cannot be used: {problem}; correct the row, then retry the job")
        self.finish = self._verdict.raised(self.job, reason, self.definition.options.retry, self._now())

    def unwritable(self, error: Exception) -> None:
        """Record that Postgres refused the outcome. It keeps its verb, and loses what may be at fault."""
        if self.finish is not None:
            told = f"Postgres refused it ({type(error).__name__})"
            self.finish = self._verdict.unwritable(self.job, self.finish, told, self._now())

    def written(self) -> None:
        """Record that the end is committed, or that the job is handed back: it is taken off the board."""
        if self._place >= 0:
            self._board.clear(self._place)
            self._place = -1

    def _ended(self) -> None:
        self.interrupt = None
        self.deadline = None
        if self._place >= 0:
            self._place = self._board.end(self._place)
        self.ended_at = self._clock.monotonic()

    def _now(self) -> datetime:
        """Return the time of the database's clock: the time of the claim, and what has passed since."""
        return self.job.started_at + timedelta(seconds=self._clock.monotonic() - self.claimed_at)


def delay_of(error: BaseException) -> Callable[[], timedelta | None] | None:
    """Return a function that reads the delay of Dramatiq's Retry; None for any other exception."""
    return partial(_read_delay, error) if issubclass(type(error), DramatiqRetry) else None


def _read_delay(error: Any) -> timedelta | None:
    milliseconds = error.delay
    if milliseconds is None:
        return None
    return timedelta(milliseconds=seconds_of(milliseconds, LONGEST_DELAY / timedelta(milliseconds=1)))
