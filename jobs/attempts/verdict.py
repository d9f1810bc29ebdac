"""How an attempt ends: the only place that chooses the verb for a job's return value or exception."""

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

import orjson
import structlog

from callboard.jobs.attempts.error_text import LONGEST_MESSAGE, error_text, runs_own_code, with_problems
from callboard.jobs.attempts.users_code import UsersCodeFailed, bounded
from callboard.jobs.errors import InvalidArguments, NotStorable, PayloadTooLarge
from callboard.jobs.model.basics.durations import LONGEST
from callboard.jobs.model.basics.json_values import encode, storable
from callboard.jobs.model.basics.plain_text import class_path
from callboard.jobs.model.basics.waits import seconds_of
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import REFUSED_RESULT, AttemptError, Finish
from callboard.jobs.model.outcomes import Cancel, Fail, Outcome, Retry, Snooze
from callboard.jobs.model.retry import Bounds, PolicyFailed, RetryPolicy
from callboard.jobs.model.states import Verb

#: The default limit of a job's result. Bytes of JSON.
RESULT_LIMIT: Final = 256 * 1024
#: The delay before the next attempt when a job's own retry policy raises an error.
_FALLBACK_DELAY: Final = timedelta(minutes=1)

_GENERATORS: Final = (GeneratorType, AsyncGeneratorType)
_NOT_RUN: Final = "the job returned a generator, so its code has not run; return a list, or loop over it"

log = structlog.get_logger(__name__)


class TimedOut(Exception):
    """The attempt took longer than its timeout."""

    stored_as = "TimedOut"


class ResultRefused(Exception):
    """The job's function returned, and its result cannot be stored. The job is not run again."""

    stored_as = "ResultRefused"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the job's work was done, but its result was refused: {reason}. The job is not tried again,"
            " because that would repeat its work. Let the function return what JSON can hold, or nothing"
        )


class Verdict:
    """Decides the ends of the attempts of one worker. `worker` names it in the errors of jobs."""

    def __init__(self, worker: str, result_limit: int = RESULT_LIMIT) -> None:
        self._result_limit = result_limit
        self.worker = worker

    def returned(
        self, job: ClaimedJob, value: Any, policy: RetryPolicy, now: datetime, *, needed: bool = True
    ) -> Finish:
        """Return the end for a returned value: complete, or the verb of a returned outcome.

        The work is done, so a value that cannot be stored is never a reason to run the job again.

        needed: True: the job fails for good with ResultRefused. False, as for Dramatiq's actors: the job
                succeeds, keys become text, and a marker that names the reason is stored in place of a value
                that cannot be stored.
        """
        if value is None:
            return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE)
        if issubclass(type(value), Outcome):
            return self.raised(job, value, policy, now)
        if issubclass(type(value), _GENERATORS):
            return self.raised(job, Fail(_NOT_RUN), policy, now)
        try:
            result = self._encoded(value, text_keys=not needed)
        except BaseException as error:  # noqa: BLE001 - the value's own code may raise anything, and may exit
            return self._refused(job, _reason(error), now, needed=needed)
        return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, result=result)

    def _encoded(self, value: Any, *, text_keys: bool) -> bytes:
        result = encode(value, limit=sys.maxsize, what="result", text_keys=text_keys)
        if len(result) > self._result_limit:
            raise _too_large(len(result), self._result_limit)
        return result

    def _refused(self, job: ClaimedJob, reason: str, now: datetime, *, needed: bool) -> Finish:
        """Return the end of an attempt whose work is done and whose result cannot be stored."""
        reason = storable(reason, LONGEST_MESSAGE)
        if not needed:
            log.warning("job.result_dropped", **job.log_fields, reason=reason)
            return Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, result=refused_result(reason))
        return Finish(
            job.id, job.epoch, job.claim_id, Verb.FAIL, error=self._entry(job, ResultRefused(reason), now)
        )

    def raised(
        self,
        job: ClaimedJob,
        error: BaseException,
        policy: RetryPolicy,
        now: datetime,
        *,
        delay: Callable[[], timedelta | None] | None = None,
    ) -> Finish:
        """Return the end for an exception: the verb of an outcome, or the decision of the retry policy.

        The exception and the policy may run any code of the user's: see users_code.py. What fails there is
        named in the message of the error, and the attempt ends all the same.

        delay: returns the delay that the error asks for; None: the policy decides.
        """
        kind = type(error)
        problems: tuple[str, ...] = ()
        asked: timedelta | None = None
        if issubclass(kind, Snooze | Retry):
            delay = partial(_own_delay, error)
        if delay is not None:
            try:
                asked = bounded(delay, own_thread=runs_own_code(error))
            except UsersCodeFailed as failed:
                problems = (f"the delay of the exception cannot be used: {failed}",)
        if issubclass(kind, Snooze) and asked is not None:
            return Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=asked)
        entry = self._entry(job, error, now, problems)
        if issubclass(kind, Cancel):
            return Finish(job.id, job.epoch, job.claim_id, Verb.STOP, error=entry if entry.message else None)
        if issubclass(kind, Fail | InvalidArguments):
            return Finish(job.id, job.epoch, job.claim_id, Verb.FAIL, error=entry)
        try:
            after = _decide(job, error, policy, now, asked)
        except UsersCodeFailed as failed:
            after = None if job.attempt >= job.max_attempts else _FALLBACK_DELAY
            log.error("retry_policy.failed", **job.log_fields, reason=str(failed))  # noqa: TRY400
            entry = replace(entry, message=with_problems(entry.message, (_what_follows(failed, after),)))
        if after is None:
            return Finish(job.id, job.epoch, job.claim_id, Verb.FAIL, error=entry)
        return Finish(job.id, job.epoch, job.claim_id, Verb.RETRY, error=entry, delay=after)

    def unwritable(self, job: ClaimedJob, end: Finish, reason: str, now: datetime) -> Finish:
        """Return what to write in place of an end that Postgres refused.

        The verb stays, so that the job's retries are kept. A job whose work is done fails for good.
        """
        if end.verb is Verb.COMPLETE:
            return self._refused(job, reason, now, needed=True)
        ended = f"; the attempt ended with {end.error.error_class}" if end.error else ""
        told = Fail(f"the outcome of the attempt could not be stored: {reason}{ended}")
        return end._replace(error=self._entry(job, told, now), result=None, put_off=None, children=())

    def skipped(
        self, job: ClaimedJob, error: BaseException, now: datetime, *, failed: bool = False
    ) -> Finish:
        """Return the end of an attempt that middleware refused to run: cancelled, or failed with `failed`."""
        entry = replace(self._entry(job, error, now), traceback="")
        return Finish(job.id, job.epoch, job.claim_id, Verb.FAIL if failed else Verb.STOP, error=entry)

    def _entry(
        self, job: ClaimedJob, error: BaseException, now: datetime, problems: tuple[str, ...] = ()
    ) -> AttemptError:
        intended = issubclass(type(error), Retry | Fail | Cancel | ResultRefused)
        text = error_text(error, with_traceback=not intended)
        return AttemptError(
            attempt=job.attempt,
            at=now,
            error_class=text.error_class,
            message=with_problems(text.message, text.problems + problems),
            traceback=text.traceback,
            worker=self.worker,
        )


def refused_result(reason: str) -> bytes:
    """Return the JSON that stands in the place of a result that could not be stored."""
    return orjson.dumps({REFUSED_RESULT: reason})


def _reason(error: BaseException) -> str:
    if type(error) in {NotStorable, PayloadTooLarge}:
        return str(error)
    return f"result cannot be written as JSON: its own code raised {class_path(type(error))[:200]}"


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the result is {size:,} bytes of JSON, at most {limit:,} are kept (CALLBOARD_RESULT_LIMIT);"
        " return where it can be found instead, or raise the limit on the workers"
    )


def _own_delay(error: Any) -> timedelta | None:
    """Return the delay of a Retry or a Snooze. A subclass may have set it to anything, or not at all."""
    delay = error.delay
    if delay is None and issubclass(type(error), Retry):
        return None
    if not issubclass(type(delay), timedelta):
        raise UsersCodeFailed(f"it is of the type {class_path(type(delay))[:200]}, not a timedelta")
    return timedelta(seconds=seconds_of(timedelta.total_seconds(delay), LONGEST.total_seconds()))


def _decide(
    job: ClaimedJob, error: BaseException, policy: RetryPolicy, now: datetime, asked: timedelta | None
) -> timedelta | None:
    """Return the delay before the next attempt; None when there is none. Raises UsersCodeFailed."""

    def decide() -> timedelta | None:
        since = now - job.enqueued_at
        bounds = Bounds.of(job.options)
        try:
            return policy.decide(job.attempt, error, since, job.max_attempts, bounds, delay=asked)
        except PolicyFailed as failed:
            raise UsersCodeFailed(str(failed)) from None

    return bounded(decide, own_thread=policy.runs_own_code or runs_own_code(error))


def _what_follows(failed: UsersCodeFailed, after: timedelta | None) -> str:
    return f"{failed}; the next attempt follows after a minute" if after else f"{failed}; no attempt is left"
