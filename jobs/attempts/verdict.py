"""How an attempt ends: the only place that chooses the verb for a job's return value or exception."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

import structlog

from callboard.jobs.errors import CallboardError, InvalidArguments, PayloadTooLarge
from callboard.jobs.model.basics.json_values import encode, storable
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import AttemptError, Finish
from callboard.jobs.model.outcomes import Cancel, Fail, Outcome, Retry, Snooze
from callboard.jobs.model.retry import Bounds, RetryPolicy
from callboard.jobs.model.states import Verb

#: The default limit of a job's result. Bytes of JSON.
RESULT_LIMIT: Final = 256 * 1024
_LONGEST_MESSAGE: Final = 2_000
_LONGEST_TRACEBACK: Final = 16_000
#: The delay before the next attempt when a job's own retry policy raises an error.
_FALLBACK_DELAY: Final = timedelta(minutes=1)

log = structlog.get_logger(__name__)


class TimedOut(Exception):
    """The attempt took longer than its timeout."""

    stored_as = "TimedOut"


class Verdict:
    """Decides the ends of the attempts of one worker. `worker` names it in the errors of jobs."""

    def __init__(self, worker: str, result_limit: int = RESULT_LIMIT) -> None:
        self._result_limit = result_limit
        self.worker = worker

    def returned(
        self, job: ClaimedJob, value: Any, policy: RetryPolicy, now: datetime, *, needed: bool = True
    ) -> Finish:
        """Return the end for a returned value: complete, or the verb of a returned outcome.

        needed: True: a value that cannot be stored fails the attempt. False: it is dropped and logged.
        """
        if isinstance(value, Outcome):
            return self.raised(job, value, policy, now)
        if value is None:
            return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE)
        try:
            result = self._encoded(value)
        except CallboardError as error:
            # A generator that was returned has not run, and neither has the job.
            if needed or isinstance(value, GeneratorType | AsyncGeneratorType):
                return self.raised(job, error, policy, now)
            log.warning("job.result_dropped", job_id=str(job.id), job=job.name, reason=error.message)
            return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE)
        return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, result=result)

    def _encoded(self, value: Any) -> bytes:
        result = encode(value, limit=sys.maxsize, what="result")
        if len(result) > self._result_limit:
            raise _too_large(len(result), self._result_limit)
        return result

    def raised(
        self,
        job: ClaimedJob,
        error: BaseException,
        policy: RetryPolicy,
        now: datetime,
        *,
        delay: timedelta | None = None,
    ) -> Finish:
        """Return the end for an exception: the verb of an outcome, or the decision of the retry policy.

        delay: the delay before the next attempt, if there is one; None: the policy decides.
        """
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
        after = _delay(job, error, policy, now, delay)
        if after is None:
            return Finish(job.id, job.epoch, job.claim_id, Verb.FAIL, error=self._entry(job, error, now))
        return Finish(
            job.id, job.epoch, job.claim_id, Verb.RETRY, error=self._entry(job, error, now), delay=after
        )

    def skipped(
        self, job: ClaimedJob, error: BaseException, now: datetime, *, failed: bool = False
    ) -> Finish:
        """Return the end of an attempt that middleware refused to run: cancelled, or failed with `failed`."""
        entry = replace(self._entry(job, error, now), traceback="")
        return Finish(job.id, job.epoch, job.claim_id, Verb.FAIL if failed else Verb.STOP, error=entry)

    def _entry(self, job: ClaimedJob, error: BaseException, now: datetime) -> AttemptError:
        intended = isinstance(error, Retry | Fail | Cancel)
        text = "" if intended else _safe_text(lambda: "".join(traceback.format_exception(error, limit=-30)))
        return AttemptError(
            attempt=job.attempt,
            at=now,
            error_class=_class_name(type(error)),
            message=storable(_safe_text(lambda: str(error)), _LONGEST_MESSAGE),
            # The end of a traceback has the most useful lines.
            traceback=storable(text[-_LONGEST_TRACEBACK:], _LONGEST_TRACEBACK),
            worker=self.worker,
        )


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the result is {size:,} bytes of JSON, at most {limit:,} are kept (CALLBOARD_RESULT_LIMIT);"
        " return where it can be found instead, or raise the limit on the workers"
    )


def _delay(
    job: ClaimedJob, error: BaseException, policy: RetryPolicy, now: datetime, asked: timedelta | None
) -> timedelta | None:
    """Return the delay before the next attempt; None when there is none."""
    try:
        since = now - job.enqueued_at
        return policy.decide(job.attempt, error, since, job.max_attempts, Bounds.of(job.options), delay=asked)
    except Exception:  # a policy is user code: its error must not keep the attempt from ending
        log.exception("retry_policy.failed", job=job.name)
        return None if job.attempt >= job.max_attempts else _FALLBACK_DELAY


def _class_name(kind: type[BaseException]) -> str:
    """Return the name that is stored for an error: a fixed name for our classes, else the class path."""
    if "stored_as" in vars(kind):
        return str(vars(kind)["stored_as"])
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _safe_text(make: Callable[[], str]) -> str:
    """Return the text of an exception.

    If the exception's own code raises an error, the text names that error.
    """
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - the attempt must end in any case
        return f"<telling it raised {type(error).__name__}>"
