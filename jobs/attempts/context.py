"""The interface of a running job for its own code: progress, logs, cancellation, enqueueing more jobs."""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, cast
from uuid import UUID

import structlog

from callboard.jobs.attempts.log_lines import LogLines
from callboard.jobs.attempts.progress import LONGEST_NOTE
from callboard.jobs.errors import CallboardError
from callboard.jobs.model.basics.plain_text import plain_text
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.current import running_here
from callboard.jobs.model.job import Source
from callboard.jobs.model.new_job import DELIVERY_OPTION
from callboard.jobs.model.outcomes import Cancel
from callboard.jobs.model.request import JobRequest, job_request

_EVERY_LEVEL: Final = structlog.make_filtering_bound_logger(logging.DEBUG)


#: Commits a job and returns its id.
EnqueueJob = Callable[[JobRequest, Source], UUID]
#: Returns the raw body of a webhook delivery. Raises NotFound.
ReadBody = Callable[[UUID], bytes]


class NotInAJob(CallboardError):
    """`current_job()` was called outside a running job."""

    code = "NOT_IN_A_JOB"
    stored_as = "NotInAJob"


class JobEnded(CallboardError):
    """A thread or task that a job left behind used the job after its end."""

    code = "JOB_ENDED"
    stored_as = "JobEnded"


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """The webhook delivery that became this job, and whose raw body is kept."""

    id: UUID
    _read: ReadBody

    def body(self) -> bytes:
        """Read the raw body, as the sender signed it. Raises NotFound when the delivery was deleted."""
        return self._read(self.id)


class RunningJob:
    """The attempt that this thread or task runs.

    `progress` and `check` raise Cancel when a stop of the job was requested. Clean up and let Cancel pass:
    the job then ends as cancelled.
    """

    # Every attempt makes this object and few jobs use it, so the initial values are class attributes.

    #: The lines that the attempt logged; None until its first line.
    lines: LogLines | None = None
    #: The arguments of the last `progress` call: the part that is done (0..1) and a note.
    reported: tuple[float, str | None] | None = None
    #: True while `reported` is not written and the worker is already notified of it.
    unwritten = False
    cancel_requested = False
    #: True when the job's function has ended. Then nothing may use the job any more.
    ended = False
    #: True in a copy of the worker's process that a job forked.
    is_copy = False

    def __init__(
        self,
        job: ClaimedJob,
        enqueue_job: EnqueueJob,
        on_progress: Callable[["RunningJob"], None],
        read_body: ReadBody,
    ) -> None:
        self._job = job
        self._enqueue_job = enqueue_job
        self._on_progress = on_progress
        self._read_body = read_body

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
        """The number of this attempt, from 1."""
        return self._job.attempt

    @property
    def max_attempts(self) -> int:
        return self._job.max_attempts

    @property
    def request_id(self) -> str | None:
        """The id of the HTTP request that the job, or the first of its parent jobs, began with; or None."""
        return self._job.request_id

    @property
    def delivery(self) -> WebhookDelivery | None:
        """The webhook delivery with the raw body; None when the job's `payload` has all of it."""
        delivery_id = (self._job.options or {}).get(DELIVERY_OPTION)
        return None if delivery_id is None else WebhookDelivery(UUID(delivery_id), self._read_own_body)

    @property
    def log(self) -> Any:
        """A logger. Its lines carry the job's id, name and attempt, and are stored with the attempt."""
        # Through `logging`: its levels decide both what is shown and what is stored.
        return structlog.wrap_logger(logging.getLogger(self.name), wrapper_class=_EVERY_LEVEL).bind(
            job_id=str(self.id), job=self.name, attempt=self.attempt
        )

    @cached_property
    def log_fields(self) -> dict[str, object]:
        """The fields of each line that is logged while this attempt runs."""
        return self._job.log_fields

    def progress(self, fraction: float, note: str | None = None) -> None:
        """Report the part that is done (0..1) and a note.

        The call is cheap; a write happens at most once a second.

        The last report before the attempt ends is written too. A fraction outside 0..1 is set to the nearer
        bound. NaN keeps the fraction of the last report. Raises Cancel when a stop was requested, and
        JobEnded after the job's end.
        """
        if self.cancel_requested or self.ended:
            self.check()
        part = float(fraction)
        if not 0.0 <= part <= 1.0:
            part = self._bounded(part)
        self.reported = (part, None if note is None else plain_text(note)[:LONGEST_NOTE])
        if not self.unwritten:
            self.unwritten = True
            self._on_progress(self)

    def written(self, reported: tuple[float, str | None] | None) -> None:
        """Record that the worker wrote this report. If there is a newer one, announce it to the worker."""
        self.unwritten = False
        if self.reported is not reported:
            self.unwritten = True
            self._on_progress(self)

    def _bounded(self, part: float) -> float:
        if part != part:  # noqa: PLR0124 - only NaN differs from itself
            return 0.0 if self.reported is None else self.reported[0]
        return min(max(part, 0.0), 1.0)

    def check(self) -> None:
        """Raise Cancel when a stop of the job was requested, and JobEnded after the job's end."""
        self.verify()
        if self.cancel_requested:
            raise Cancel("cancelled while running")

    def enqueue(self, name: str, kwargs: dict[str, Any] | None = None, **options: Any) -> UUID:
        """Enqueue another job and return its id. Its source is this job. Options as for `Client.enqueue`."""
        self.verify()
        request = job_request({"name": name, "kwargs": kwargs or {}, **options})
        return self._enqueue_job(request, Source("job", str(self.id), self.request_id))

    def verify(self) -> None:
        """Raise JobEnded after the job's end, and NotInAJob in a copy of the process that the job forked."""
        if self.is_copy:
            raise NotInAJob(
                f"this process is a copy that the job {self.id} forked, and the job runs only in the process"
                " that it was copied from; return the data to that process, or enqueue with Client or .send()"
            )
        if self.ended:
            raise JobEnded(
                f"the job {self.id} has ended, and a thread or task that it left behind still uses it;"
                " let the job wait for its threads and tasks before it returns"
            )

    def _read_own_body(self, delivery_id: UUID) -> bytes:
        self.verify()
        return self._read_body(delivery_id)


def current_job() -> RunningJob:
    """Return the job that this thread or task runs.

    Raises NotInAJob outside a job, and JobEnded in what a job left behind after its end.
    """
    job = _running.get()
    if job is None:
        raise NotInAJob(
            "current_job() works only inside a running job, and in the tasks and threads that it starts; give"
            " work to the threads of others with callboard.carry(function)"
        )
    if job.ended:
        job.verify()
    return job


def running_job() -> RunningJob | None:
    """Return the job that this thread or task runs; None outside a job and after the job's end."""
    job = _running.get()
    return None if job is None or job.ended else job


def disown_jobs() -> None:
    """In a forked process: end the use of every job, because they run in the process that was copied."""
    RunningJob.ended = RunningJob.is_copy = True


def job_log_fields() -> Mapping[str, object]:
    """Return the fields of the lines of the job that this thread or task runs; none outside a job."""
    job = running_job()
    return _NO_FIELDS if job is None else job.log_fields


_NO_FIELDS: Final[Mapping[str, object]] = MappingProxyType({})
_running = cast("ContextVar[RunningJob | None]", running_here)
