"""Makes the attempts of a worker child."""

from collections.abc import Callable

from callboard.jobs.attempts.context import EnqueueJob, ReadBody, RunningJob
from callboard.jobs.attempts.verdict import Verdict
from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.workers.execute.attempt import Attempt


class AttemptFactory:
    """Makes the attempts of one worker child.

    on_progress: is called with a running job that has progress to write.
    read_body:   returns the raw body of a webhook delivery.
    """

    def __init__(
        self,
        verdict: Verdict,
        enqueue_job: EnqueueJob,
        on_progress: Callable[[RunningJob], None],
        read_body: ReadBody,
        clock: Clock,
    ) -> None:
        self._read_body = read_body
        self._verdict = verdict
        self._enqueue_job = enqueue_job
        self._on_progress = on_progress
        self._clock = clock

    def __call__(self, job: ClaimedJob, definition: JobDefinition) -> Attempt:
        """Return the attempt at a claimed job."""
        running = RunningJob(job, self._enqueue_job, self._on_progress, self._read_body)
        return Attempt(job, definition, running, self._verdict, self._clock)
