"""A Dramatiq result backend that reads results from the rows of the jobs."""

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from dramatiq.results import ResultBackend, ResultFailure, ResultMissing, ResultTimeout
from dramatiq.results.backend import DEFAULT_TIMEOUT, Missing

from callboard.jobs.errors import NotFound
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import id_of
from callboard.jobs.model.endings import REFUSED_RESULT
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState

if TYPE_CHECKING:
    from uuid import UUID

    from callboard.jobs.platform import Platform

#: The stored class name of the error by which middleware skips a message.
SKIPPED: Final = "SkipMessage"
#: The stored class name of the error of an attempt that took too long, and Dramatiq's name for it.
_TIMED_OUT: Final = "TimedOut"
_TIME_LIMIT: Final = "TimeLimitExceeded"
#: Dramatiq's message for a job that exceeded its age limit.
_TOO_OLD: Final = "Message age limit exceeded"
#: The longest pause between two reads while a call waits for a result. Seconds.
_READ_EVERY: Final = 1.0


class PostgresResults(ResultBackend):
    """Returns results of jobs. Every result is stored as long as its job, with or without `store_results`."""

    def __init__(self, connect: "Callable[[], Platform]") -> None:
        super().__init__(namespace="callboard")
        self._connect = connect

    def get_result(self, message: Any, *, block: bool = False, timeout: int | None = None) -> Any:
        """Return what the job returned.

        block:   wait until the job has ended.
        timeout: how long to wait, in milliseconds; None: 10 seconds.

        Raises ResultFailure when the job failed or was cancelled, ResultMissing when it has not ended or does
        not exist yet (a later part of a pipeline), and ResultTimeout when the wait is over.
        """
        job_id = id_of(message.message_id, int(message.message_timestamp))
        found = self._find_result(job_id)
        if found is Missing and block:
            found = self._wait(job_id, (DEFAULT_TIMEOUT if timeout is None else timeout) / 1000)
            if found is Missing:
                raise ResultTimeout(message)  # type: ignore[no-untyped-call]
        if found is Missing:
            raise ResultMissing(message)  # type: ignore[no-untyped-call]
        return found

    def store_result(self, message: Any, result: Any, ttl: int) -> None:
        """Do nothing: the worker stores the result when the attempt ends."""

    def store_exception(self, message: Any, exception: BaseException, ttl: int) -> None:
        """Do nothing: the worker stores the error when the attempt ends."""

    def _wait(self, job_id: "UUID", seconds: float) -> Any:
        deadline, woken = SYSTEM.monotonic() + seconds, Event()
        with self._connect().waiting.listen(job_id, woken.set):
            while (found := self._find_result(job_id)) is Missing:
                left = deadline - SYSTEM.monotonic()
                if left <= 0:
                    break
                woken.wait(min(left, _READ_EVERY))
                woken.clear()
        return found

    def _find_result(self, job_id: "UUID") -> Any:
        """Return the result of a job that has ended; Missing for any other."""
        try:
            job = self._connect().jobs.get(job_id)
        except NotFound:
            return Missing
        return _result(job) if job.finished else Missing


def _result(job: Job) -> Any:
    """Return the result of a job that has ended.

    Raises ResultFailure unless it succeeded or was skipped, and when its result could not be stored.
    """
    if job.state is JobState.SUCCEEDED:
        if isinstance(job.result, dict) and job.result.keys() == {REFUSED_RESULT}:
            reason = str(job.result[REFUSED_RESULT])
            raise ResultFailure(  # type: ignore[no-untyped-call]
                f"the actor succeeded, but its result was refused: {reason}", "ResultRefused", reason
            )
        return job.result
    error = job.errors[-1] if job.errors else {}
    error_class = str(error.get("class", "")).rpartition(".")[2]
    if job.state is JobState.CANCELLED:
        too_old = job.progress_note == "expired" or error.get("message") == _TOO_OLD
        if error_class == SKIPPED and not too_old:
            return None
        # A job that is too old is cancelled here, but Dramatiq skips its message: report what Dramatiq would.
        error_class, error = (
            (SKIPPED, {"message": _TOO_OLD})
            if too_old
            else ("Cancelled", {"message": "the job was cancelled"})
        )
    if job.state is JobState.QUARANTINED:
        error_class, error = "Quarantined", {"message": "the job crashed its worker too often"}
    if error_class == _TIMED_OUT:
        error_class = _TIME_LIMIT
    message = str(error.get("message", ""))
    raise ResultFailure(  # type: ignore[no-untyped-call]
        f"actor raised {error_class}: {message}", error_class, message
    )
