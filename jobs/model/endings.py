"""Values about ends: what a worker reports, and what a write, a cancel or a rescue changed.

The values that every attempt makes are named tuples. They cost a third of a frozen dataclass.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from callboard.jobs.model.states import JobState, Verb

if TYPE_CHECKING:
    from callboard.jobs.model.dispatch import Dispatch

#: The key of the object that stands in the place of a result that could not be stored, when the job succeeded
#: all the same. Its value is the reason.
REFUSED_RESULT: Final = "result_refused"


@dataclass(frozen=True, slots=True)
class AttemptError:
    """Why an attempt failed. One entry of the job's `errors`."""

    attempt: int
    at: datetime
    error_class: str
    message: str
    traceback: str
    worker: str

    def entry(self) -> dict[str, Any]:
        """Return the JSON object that is stored in the job's `errors`."""
        return {
            "attempt": self.attempt,
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "class": self.error_class,
            "message": self.message,
            "traceback": self.traceback,
            "worker": self.worker,
        }


class Finish(NamedTuple):
    """The end of an attempt: the verb and the values it writes. `result` is encoded JSON."""

    id: UUID
    epoch: int
    claim_id: UUID
    verb: Verb
    result: bytes | None = None
    error: AttemptError | None = None
    delay: timedelta | None = None
    #: For snooze only: why this worker cannot run the job. Set when the job's function was not called.
    put_off: str | None = None
    #: Jobs to enqueue in the same transaction. They are not enqueued when the end is refused as stale.
    children: "tuple[Dispatch, ...]" = ()
    #: For retry only: the options of the message that middleware has changed, as encoded JSON.
    message_options: bytes | None = None


class Cancelled(NamedTuple):
    """The result of a cancel. `state` is `running` when the job's worker was only asked to stop it."""

    id: UUID
    state: JobState
    queue: str
    name: str


class Finished(NamedTuple):
    """The state that a job has after the end of its attempt was written."""

    id: UUID
    state: JobState


class CancelRequest(NamedTuple):
    """A request to stop a running job. `forced`: kill the worker child if the job does not stop by itself."""

    id: UUID
    epoch: int
    forced: bool


class TakenBack(NamedTuple):
    """A job that was rescued from a dead worker. `blamed`: the job may have caused the crash."""

    id: UUID
    name: str
    queue: str
    state: JobState
    blamed: bool
    crash_count: int
    suspected: int
    solo: bool
    request_id: str | None

    @property
    def log_fields(self) -> dict[str, object]:
        """Return the fields of each log line about this job."""
        fields: dict[str, object] = {"job_id": str(self.id), "job": self.name, "queue": self.queue}
        if self.request_id is not None:
            fields["request_id"] = self.request_id
        return fields
