"""The values that travel between services and repositories.

Those that every attempt makes are named tuples, which cost a third of a frozen dataclass.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from callboard.jobs.model.states import JobState, Verb

if TYPE_CHECKING:
    from callboard.jobs.followers.dispatch import Dispatch


@dataclass(frozen=True, slots=True)
class AttemptError:
    """Why an attempt failed, as it is kept with the job."""

    attempt: int
    at: datetime
    error_class: str
    message: str
    traceback: str
    worker: str

    def entry(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt,
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "class": self.error_class,
            "message": self.message,
            "traceback": self.traceback,
            "worker": self.worker,
        }


class Finish(NamedTuple):
    """How an attempt ends: the verb, and what it writes. `result` is encoded JSON."""

    id: UUID
    epoch: int
    claim_id: UUID
    verb: Verb
    result: bytes | None = None
    error: AttemptError | None = None
    delay: timedelta | None = None
    #: With snooze: why this worker cannot run the job; set only where the function was never called.
    put_off: str | None = None
    #: Jobs that this end brings about: they are enqueued in its transaction, if it is not refused as stale.
    children: "tuple[Dispatch, ...]" = ()


class Cancelled(NamedTuple):
    """What a cancel came to: cancelled, or still running and asked to stop."""

    id: UUID
    state: JobState
    queue: str
    name: str


class Finished(NamedTuple):
    """What a finish came to."""

    id: UUID
    state: JobState


class CancelRequest(NamedTuple):
    """A running job that somebody wants stopped; `forced`: whatever it says to that."""

    id: UUID
    epoch: int
    forced: bool


class TakenBack(NamedTuple):
    """What became of a job whose worker died. `blamed`: it may have been the cause."""

    id: UUID
    name: str
    queue: str
    state: JobState
    blamed: bool
    crash_count: int
    suspected: int
    solo: bool
