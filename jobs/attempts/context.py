"""The running job, as its own code sees it: progress, logs, cancellation, children."""

import logging
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from callboard.jobs.attempts.log_lines import LogLines
from callboard.jobs.enqueue.batch import Receipt
from callboard.jobs.errors import CallboardError
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.job import Source
from callboard.jobs.model.outcomes import Cancel
from callboard.jobs.model.request import JobRequest, job_request

_LONGEST_NOTE: Final = 500
_EVERY_LEVEL: Final = structlog.make_filtering_bound_logger(logging.DEBUG)


class Enqueuer(Protocol):
    """Accepts jobs (jobs.services.enqueue.Enqueue)."""

    def one(self, request: JobRequest, source: Source) -> Receipt: ...

    def many(self, requests: Sequence[JobRequest], source: Source) -> list[Receipt]: ...


class NotInAJob(CallboardError):
    """`current_job()` was called outside a running job."""

    code = "NOT_IN_A_JOB"


class RunningJob:
    """The attempt that this thread or task is running.

    `progress` and `check` raise Cancel when somebody has asked for the job to stop: let it pass, after
    cleaning up, and the job ends as cancelled.
    """

    # Every attempt makes one, and few ask it for anything: what is the same for all begins in the class.

    #: What the attempt logs; made with its first line.
    lines: LogLines | None = None
    #: What `progress` said last: the part done (0..1) and a note.
    reported: tuple[float, str | None] | None = None
    #: Whether that is yet to be written; until then the worker need not be told of more.
    untold = False
    cancel_requested = False

    def __init__(
        self, job: ClaimedJob, enqueuer: Enqueuer, on_progress: Callable[["RunningJob"], None]
    ) -> None:
        self._job = job
        self._enqueuer = enqueuer
        self._on_progress = on_progress

    @property
    def id(self) -> UUID:
        return self._job.id

    @property
    def epoch(self) -> int:
        return self._job.epoch

    @property
    def claim_id(self) -> UUID:
        return self._job.claim_id

    @property
    def name(self) -> str:
        return self._job.name

    @property
    def queue(self) -> str:
        return self._job.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._job.attempt

    @property
    def max_attempts(self) -> int:
        return self._job.max_attempts

    @property
    def log(self) -> Any:
        """A logger whose lines carry the job's id, name and attempt, and are kept with the attempt."""
        # By way of `logging`, whose level asks what is kept as well as what is shown.
        return structlog.wrap_logger(logging.getLogger(self.name), wrapper_class=_EVERY_LEVEL).bind(
            job_id=str(self.id), job=self.name, attempt=self.attempt
        )

    def progress(self, fraction: float, note: str | None = None) -> None:
        """Say how much is done (0..1) and what is going on; as cheap as a call, written at most once a second.

        The last word before the attempt's end is written, too. What lies outside 0..1 counts as its end, and NaN
        leaves the part that was said before.
        """
        if self.cancel_requested:
            self.check()
        part = float(fraction)
        if not 0.0 <= part <= 1.0:
            part = self._bounded(part)
        self.reported = (part, None if note is None else str(note)[:_LONGEST_NOTE])
        if not self.untold:
            self.untold = True
            self._on_progress(self)

    def written(self, reported: tuple[float, str | None] | None) -> None:
        """The worker has written this word; a newer one, if there is, is told of again."""
        self.untold = False
        if self.reported is not reported:
            self.untold = True
            self._on_progress(self)

    def _bounded(self, part: float) -> float:
        if part != part:  # noqa: PLR0124 - so is NaN, and nothing else
            return 0.0 if self.reported is None else self.reported[0]
        return min(max(part, 0.0), 1.0)

    def check(self) -> None:
        """Raise Cancel when the job was asked to stop."""
        if self.cancel_requested:
            raise Cancel("cancelled while running")

    def enqueue(self, name: str, kwargs: dict[str, Any] | None = None, **options: Any) -> UUID:
        """Enqueue another job; its source is this one. Options as for `Client.enqueue`."""
        request = job_request({"name": name, "kwargs": kwargs or {}, **options})
        return self._enqueuer.one(request, Source("job", str(self.id))).id


_current: ContextVar[RunningJob | None] = ContextVar("callboard_current_job", default=None)


def current_job() -> RunningJob:
    """The job that is running here; raises NotInAJob outside of one."""
    job = _current.get()
    if job is None:
        raise NotInAJob("current_job() is there only inside a running job")
    return job


def running_job() -> RunningJob | None:
    """The job that is running here, if there is one."""
    return _current.get()


def current_source() -> Source:
    """The source of what is enqueued here: the running job, or plain Python."""
    job = _current.get()
    return Source("python") if job is None else Source("job", str(job.id))


#: Set by the worker around a job's function.
enter = _current.set
leave = _current.reset
