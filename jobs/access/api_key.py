"""An API key, as its row describes it, and what it is restricted to."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from callboard.jobs.model.job_type import JobType


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret, which is not stored.

    prefix: the public part of the key's text.
    queue:  the only queue that the key may use; None: all queues.
    job:    the name of the only job that the key may use; None: all jobs.

    With a queue and a job, both restrictions apply.
    """

    id: UUID
    name: str
    prefix: str
    role: str
    queue: str | None
    job: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def confined(self) -> bool:
        """Return whether the key is restricted to a queue or to a job."""
        return self.queue is not None or self.job is not None

    @property
    def confinement(self) -> str:
        """Return the restriction as text, such as "the job 'receipt' of the queue 'mail'"."""
        queue, job = f"the queue {self.queue!r}", f"the job {self.job!r}"
        if self.job is None:
            return queue if self.confined else "all jobs"
        return job if self.queue is None else f"{job} of {queue}"

    def sees_job(self, name: str, queue: str) -> bool:
        """Return whether the key may see and control a job with this name in this queue."""
        return self.queue in (None, queue) and self.job in (None, name)

    def may_enqueue(self, kind: JobType) -> bool:
        """Return whether the key may enqueue jobs of this published type.

        The queue that counts is the published one. A request could name any queue.
        """
        return self.sees_job(kind.name, kind.queue)

    def sees_queue(self, queue: str) -> bool:
        """Return whether the key may see and control a whole queue.

        A key that is restricted to a job may not: a queue holds other jobs too.
        """
        return self.job is None and self.queue in (None, queue)
