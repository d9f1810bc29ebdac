"""How an attempt ends: the one place where what a job returned or raised becomes a verb."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from callboard.jobs.errors import CallboardError, InvalidArguments, PayloadTooLarge
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import AttemptError, Finish
from callboard.jobs.model.json_values import encode, storable
from callboard.jobs.model.outcomes import Cancel, Fail, Outcome, Retry, Snooze
from callboard.jobs.model.retry import Bounds, RetryPolicy
from callboard.jobs.model.states import Verb

#: Bytes of JSON that a job may return, when nothing else is said.
RESULT_LIMIT: Final = 256 * 1024
_LONGEST_MESSAGE: Final = 2_000
_LONGEST_TRACEBACK: Final = 16_000
#: Until the next attempt when a job's own policy is broken.
_FALLBACK_DELAY: Final = timedelta(minutes=1)

log = structlog.get_logger(__name__)


class TimedOut(Exception):
    """The attempt took longer than its timeout."""

    stored_as = "TimedOut"


class Verdict:
    """Ends attempts of one worker."""

    def __init__(self, worker: str, result_limit: int = RESULT_LIMIT) -> None:
        self._result_limit = result_limit
        self.worker = worker

    def returned(
        self, job: ClaimedJob, value: Any, policy: RetryPolicy, now: datetime, *, needed: bool = True
    ) -> Finish:
        """What follows from a value: complete, or what the outcome says that was returned.

        needed: a value that cannot be kept fails the attempt; else it is dropped, with a line in the log.
        """
        if isinstance(value, Outcome):
            return self.raised(job, value, policy, now)
        if value is None:
            return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE)
        try:
            result = self._encoded(value)
        except CallboardError as error:
            if needed:
                return self.raised(job, error, policy, now)
            log.warning("job.result_dropped", job_id=str(job.id), job=job.name, reason=error.message)
            return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE)
        return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, result=result)

    def _encoded(self, value: Any) -> bytes:
        result = encode(value, limit=sys.maxsize, what="result")
        if len(result) > self._result_limit:
            raise _too_large(len(result), self._result_limit)
        return result

    def raised(self, job: ClaimedJob, error: BaseException, policy: RetryPolicy, now: datetime) -> Finish:
        """What follows from an exception: the outcome it is, or what the policy makes of a failed attempt."""
        match error:
            case Snooze():
                return Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=error.delay)
            case Cancel():
                return Finish(
                    job.id,
                    job.epoch,
                    job.claim_id,
                    Verb.STOP,
                    error=self._entry(job, error, now) if error.reason else None,
                )
            case Fail() | InvalidArguments():
                return Finish(job.id, job.epoch, job.claim_id, Verb.FAIL, error=self._entry(job, error, now))
        delay = _delay(job, error, policy, now)
        if delay is None:
            return Finish(job.id, job.epoch, job.claim_id, Verb.FAIL, error=self._entry(job, error, now))
        return Finish(
            job.id, job.epoch, job.claim_id, Verb.RETRY, error=self._entry(job, error, now), delay=delay
        )

    def skipped(
        self, job: ClaimedJob, error: BaseException, now: datetime, *, failed: bool = False
    ) -> Finish:
        """What follows when middleware says that the job is not to be run: cancelled, or failed where it says that too."""
        entry = replace(self._entry(job, error, now), traceback="")
        return Finish(job.id, job.epoch, job.claim_id, Verb.FAIL if failed else Verb.STOP, error=entry)

    def _entry(self, job: ClaimedJob, error: BaseException, now: datetime) -> AttemptError:
        asked = isinstance(error, Retry | Fail | Cancel)
        text = "" if asked else _told(lambda: "".join(traceback.format_exception(error, limit=-30)))
        return AttemptError(
            attempt=job.attempt,
            at=now,
            error_class=_class_name(type(error)),
            message=storable(_told(lambda: str(error)), _LONGEST_MESSAGE),
            # The end of a traceback says most.
            traceback=storable(text[-_LONGEST_TRACEBACK:], _LONGEST_TRACEBACK),
            worker=self.worker,
        )


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the result is {size:,} bytes of JSON, at most {limit:,} are kept (CALLBOARD_RESULT_LIMIT);"
        " return where it can be found instead, or raise the limit on the workers"
    )


def _delay(job: ClaimedJob, error: BaseException, policy: RetryPolicy, now: datetime) -> timedelta | None:
    try:
        since = now - job.enqueued_at
        return policy.decide(job.attempt, error, since, job.max_attempts, Bounds.of(job.options))
    except Exception:  # a policy is user code; its fault must not lose the attempt's end
        log.exception("retry_policy.failed", job=job.name)
        return None if job.attempt >= job.max_attempts else _FALLBACK_DELAY


def _class_name(kind: type[BaseException]) -> str:
    """The name under which an error of this class is stored: a fixed name for ours, the class path for any other."""
    if "stored_as" in vars(kind):
        return str(vars(kind)["stored_as"])
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _told(tell: Callable[[], str]) -> str:
    """What an exception says of itself; an exception's own code may raise in turn."""
    try:
        return tell()
    except Exception as error:  # noqa: BLE001 - the attempt must end all the same
        return f"<telling it raised {type(error).__name__}>"
