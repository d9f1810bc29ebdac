"""What `run` returns: the end of a job, and what it did on the way there."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from callboard.jobs.attempts.log_lines import LogLine
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import Verb


class RunOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    #: It failed, and the retry policy gives the job another attempt.
    RETRYING = "retrying"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: The job asked to run again later; the attempt does not count.
    SNOOZED = "snoozed"

    @classmethod
    def of(cls, verb: Verb, *, cancel_requested: bool) -> "RunOutcome":
        """Return the outcome of the verb that ends an attempt.

        A job with a cancel request does not run again. The statement that writes ends has the same rule.
        """
        if cancel_requested and verb in {Verb.RETRY, Verb.SNOOZE}:
            return cls.CANCELLED
        return _OUTCOMES[verb]


_OUTCOMES = {
    Verb.COMPLETE: RunOutcome.SUCCEEDED,
    Verb.RETRY: RunOutcome.RETRYING,
    Verb.FAIL: RunOutcome.FAILED,
    Verb.STOP: RunOutcome.CANCELLED,
    Verb.SNOOZE: RunOutcome.SNOOZED,
}


class Report(NamedTuple):
    """The arguments of one `progress` call: the part that is done (0..1) and a note."""

    fraction: float
    note: str | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a job, and what it did.

    outcome:   how the last attempt ended. It compares equal to its text, such as "succeeded".
    result:    what the function returned, after a round trip through JSON; None unless it succeeded.
    error:     the exception of the last attempt that did not succeed: the object that the function raised.
    traceback: its traceback, as a worker stores it; "" when there is none.
    attempts:  how many attempts ran.
    delays:    the delays that followed the attempts: of retries and snoozes.
    progress:  the reports of the last attempt, in their order.
    logs:      the log lines of the last attempt.
    enqueued:  the jobs that the job enqueued, and those that follow from its end. Within `drain` they are in
               the database, and this is empty.
    """

    outcome: RunOutcome
    result: Any
    error: BaseException | None
    traceback: str
    attempts: int
    delays: tuple[timedelta, ...]
    progress: tuple[Report, ...]
    logs: tuple[LogLine, ...]
    enqueued: tuple[Job, ...]
