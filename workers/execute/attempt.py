"""An attempt in the hands of this process: the claimed job, its definition, and how it ended."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from dramatiq.middleware import SkipMessage, TimeLimitExceeded

from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.put_off import Misfit, put_off
from callboard.jobs.attempts.verdict import TimedOut, Verdict
from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.jobs.errors import InvalidArguments
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.clock import Clock
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.ids import made_at
from callboard.jobs.model.outcomes import Cancel, Fail
from callboard.workers.board import PutOnBoard
from callboard.workers.execute.interrupts import (
    CancelInterrupt,
    JobInterrupt,
    ShutdownInterrupt,
    TimeoutInterrupt,
)

#: The hard timeout of a job that has a timeout and says nothing of a hard one.
BEYOND_TIMEOUT: Final = timedelta(seconds=30)
#: In Dramatiq's own words.
TOO_OLD: Final = "Message age limit exceeded"


class _TimedOut(TimedOut, TimeLimitExceeded):
    """TimedOut, which the `throws` and `retry_when` of Dramatiq's actors know by their own name."""

    stored_as = TimedOut.stored_as


class PutOff(SkipMessage):
    """This worker cannot run the job; it is never called. To middleware the message was skipped."""

    def __init__(self, misfit: Misfit, what: str) -> None:
        super().__init__(what)
        self.misfit = misfit
        self.what = what


class Attempt:
    """One claimed job on its way through the worker. `finish` is set once it has ended."""

    __slots__ = (
        "_clock", "_off_board", "_verdict", "began_at", "claimed_at", "deadline", "definition", "ended_at", "finish",
        "interrupt", "interrupted", "job", "running", "unstarted", "value",
    )  # fmt: skip

    def __init__(
        self, job: ClaimedJob, definition: JobDefinition, running: RunningJob, verdict: Verdict, clock: Clock
    ) -> None:
        self.job = job
        self.definition = definition
        self.running = running
        self.finish: Finish | None = None
        #: Set when the worker drains before the attempt began: it goes back as it came.
        self.unstarted = False
        #: Interrupts the attempt if it runs; set while it does.
        self.interrupt: Callable[[type[JobInterrupt]], bool] | None = None
        #: For what reason it was interrupted last.
        self.interrupted: type[JobInterrupt] | None = None
        #: What the job returned, until the hooks of middleware have seen it.
        self.value: Any = None
        self.claimed_at = clock.monotonic()
        self.began_at: float | None = None
        self.ended_at = 0.0
        #: Monotonic seconds at which the timeout strikes.
        self.deadline: float | None = None
        self._verdict = verdict
        self._clock = clock
        self._off_board: Callable[[], None] | None = None

    @property
    def message(self) -> "Attempt":
        """Itself: Dramatiq's threads take a message out of an item of the work queue, and this stands for both."""
        return self

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What to call the function with.

        Raises Fail when the row's own arguments cannot be read, Cancel when nobody wants it any more, and PutOff when
        they do not fit this worker's function: another may have the version of it that they were made for.
        """
        args, kwargs = self.job.args, self.job.kwargs
        if args is None or kwargs is None:
            raise Fail("the job's arguments cannot be read")
        if self.running.cancel_requested:
            raise Cancel("cancelled before it began")
        if self.job.options is not None or self.definition.message_options:
            self._check_age()
        try:
            return self.definition.binder.bind(args, kwargs)
        except InvalidArguments as error:
            raise PutOff(Misfit.ARGUMENTS, f"cannot call it, {error.message}") from error

    def option(self, name: str) -> Any:
        """What the message, or else its actor, says of a Dramatiq option."""
        sent = (self.job.options or {}).get("message") or {}
        return sent[name] if name in sent else self.definition.message_options.get(name)

    def _check_age(self) -> None:
        """Raise SkipMessage when it is too old and nobody has ended it for that yet.

        A delayed job, a retry and one that an operator runs again are left to the scheduler, which knows their time.
        """
        limit = self.option("max_age")
        at_once = self.job.attempt == 1 and self.job.run_at <= self.job.enqueued_at
        if at_once and isinstance(limit, int | float):
            age = self._clock.now().timestamp() * 1000 - made_at(self.job.id)
            if age >= limit > 0:
                raise SkipMessage(TOO_OLD)

    def begin(self, put_on_board: PutOnBoard) -> None:
        """The attempt starts now."""
        now = self._clock.monotonic()
        options = self.definition.options
        limit = self.job.timeout or options.timeout
        hard = self.job.hard_timeout or options.hard_timeout
        if hard is None and limit is not None:
            hard = limit + BEYOND_TIMEOUT
        if hard is None:
            self._off_board = put_on_board(self.job.id, 0.0, 0.0)
        else:
            seconds = hard.total_seconds()
            self._off_board = put_on_board(self.job.id, now + seconds, seconds)
        self.began_at = now
        self.deadline = None if limit is None else now + limit.total_seconds()

    def returned(self, value: Any) -> None:
        self.value = value
        definition = self.definition
        self.finish = self._verdict.returned(
            self.job, value, definition.options.retry, self._now(), needed=definition.needs_result
        )
        self._ended()

    def raised(self, error: BaseException) -> None:
        """The attempt ended with an exception; an interrupt says what it stands for."""
        match error:
            case ShutdownInterrupt():
                self.unstarted = True
            case CancelInterrupt():
                error = Cancel("cancelled while running")
            case TimeoutInterrupt():
                limit = self.job.timeout or self.definition.options.timeout or timedelta()
                error = _TimedOut(f"the attempt took longer than its timeout of {limit.total_seconds():g} s")
        if isinstance(error, PutOff):
            self.put_off(error)
        elif isinstance(error, SkipMessage):
            self.skipped(error)
        elif not self.unstarted:
            self.finish = self._verdict.raised(self.job, error, self.definition.options.retry, self._now())
        self._ended()

    def skipped(self, reason: BaseException, *, failed: bool = False) -> None:
        """Dramatiq's middleware, or the job in its manner, says that it is not to be run."""
        self.finish = self._verdict.skipped(self.job, reason, self._now(), failed=failed)

    def put_off(self, reason: PutOff) -> None:
        """This worker cannot run the job; nothing has begun that would count."""
        self.began_at = None
        self.finish = put_off(self.job, self._verdict.worker, reason.misfit, reason.what)

    def unwritable(self, error: Exception) -> None:
        """Postgres refuses the outcome itself: the attempt has failed for that reason."""
        reason = Fail(f"the outcome could not be stored: {type(error).__name__}")
        self.finish = self._verdict.raised(self.job, reason, self.definition.options.retry, self._now())

    def _ended(self) -> None:
        self.interrupt = None
        self.deadline = None
        if self._off_board is not None:
            self._off_board()
            self._off_board = None
        self.ended_at = self._clock.monotonic()

    def _now(self) -> datetime:
        return self._clock.now()
