"""The log of attempts that did not succeed: one event each. A job that succeeds has none."""

from typing import Final

import structlog

from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.workers.execute.attempt import Attempt

log = structlog.get_logger(__name__)

_EVENTS: Final = {
    Verb.RETRY: "job.retried",
    Verb.SNOOZE: "job.snoozed",
    Verb.FAIL: "job.failed",
    Verb.STOP: "job.cancelled",
}


def log_end(attempt: Attempt, end: Finish, state: JobState) -> None:
    """Log the written end of an attempt: a final failure as an error with its traceback, others as info.

    state: the job's state after the write. It may differ from what the verb asked for.
    """
    job, error = attempt.job, end.error
    fields: dict[str, object] = dict(attempt.running.log_fields)
    if error is not None:
        fields |= {"error": error.error_class, "message": error.message}
    if end.delay is not None and state is not JobState.FAILED:
        fields["delay"] = end.delay.total_seconds()
    if state is JobState.FAILED:
        fields["max_attempts"] = job.max_attempts
        if error is not None and error.traceback:
            fields["exception"] = error.traceback
        log.error("job.failed", **fields)
    else:
        log.info("job.cancelled" if state is JobState.CANCELLED else _EVENTS[end.verb], **fields)
