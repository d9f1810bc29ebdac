"""Results as Dramatiq's programs ask for them, read from the jobs' rows."""

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from dramatiq.results import ResultBackend, ResultFailure, ResultMissing, ResultTimeout
from dramatiq.results.backend import DEFAULT_TIMEOUT, Missing

from callboard.jobs.errors import NotFound
from callboard.jobs.model.clock import SYSTEM
from callboard.jobs.model.ids import id_of
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState

if TYPE_CHECKING:
    from uuid import UUID

    from callboard.jobs.platform import Platform

#: The class of error with which Dramatiq, and so a job here, says that middleware skipped it.
SKIPPED: Final = "SkipMessage"
_TOO_OLD: Final = "Message age limit exceeded"
_LOOK_EVERY: Final = 1.0


class PostgresResults(ResultBackend):
    """Every job's result is kept, whatever store_results says, for as long as the job is."""

    def __init__(self, connect: "Callable[[], Platform]") -> None:
        super().__init__(namespace="callboard")
        self._connect = connect

    def get_result(self, message: Any, *, block: bool = False, timeout: int | None = None) -> Any:
        """What the job returned.

        Raises ResultFailure when it failed or was cancelled, ResultMissing when it has not ended (or is not there yet: the
        rest of a pipeline), and with `block` ResultTimeout after `timeout` milliseconds, by default 10 seconds.
        """
        job_id = id_of(message.message_id, message.message_timestamp)
        found = self._look(job_id)
        if found is Missing and block:
            found = self._wait(job_id, (DEFAULT_TIMEOUT if timeout is None else timeout) / 1000)
            if found is Missing:
                raise ResultTimeout(message)  # type: ignore[no-untyped-call]
        if found is Missing:
            raise ResultMissing(message)  # type: ignore[no-untyped-call]
        return found

    def store_result(self, message: Any, result: Any, ttl: int) -> None:
        """Nothing to do: it is written with the end of the attempt, and kept as long as the job."""

    def store_exception(self, message: Any, exception: BaseException, ttl: int) -> None:
        """Nothing to do, likewise."""

    def _wait(self, job_id: "UUID", seconds: float) -> Any:
        deadline, woken = SYSTEM.monotonic() + seconds, Event()
        with self._connect().waiting.listen(job_id, woken.set):
            while (found := self._look(job_id)) is Missing and (left := deadline - SYSTEM.monotonic()) > 0:
                woken.wait(min(left, _LOOK_EVERY))
                woken.clear()
        return found

    def _look(self, job_id: "UUID") -> Any:
        try:
            job = self._connect().jobs.get(job_id)
        except NotFound:
            return Missing
        return _result(job) if job.finished else Missing


def _result(job: Job) -> Any:
    if job.state is JobState.SUCCEEDED:
        return job.result
    error = job.errors[-1] if job.errors else {}
    kind = str(error.get("class", "")).rpartition(".")[2]
    if job.state is JobState.CANCELLED:
        too_old = job.progress_note == "expired" or error.get("message") == _TOO_OLD
        if kind == SKIPPED and not too_old:
            return None
        # What is cancelled for its age here is skipped there.
        kind, error = (
            (SKIPPED, {"message": _TOO_OLD})
            if too_old
            else ("Cancelled", {"message": "the job was cancelled"})
        )
    if job.state is JobState.QUARANTINED:
        kind, error = "Quarantined", {"message": "the job took its worker down too often"}
    said = str(error.get("message", ""))
    raise ResultFailure(f"actor raised {kind}: {said}", kind, said)  # type: ignore[no-untyped-call]
