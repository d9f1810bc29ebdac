"""A job as JSON."""

from typing import Any

from callboard.jobs.model.basics.durations import exact_duration
from callboard.jobs.model.job import Job


def job_object(job: Job) -> dict[str, Any]:
    """Return a job's fields for JSON output. They are the fields that HTTP returns."""
    return {
        "id": str(job.id),
        "name": job.name,
        "queue": job.queue,
        "state": str(job.state),
        "priority": job.priority,
        "args": job.args,
        "kwargs": job.kwargs,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "run_at": job.run_at,
        "enqueued_at": job.enqueued_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "progress": job.progress,
        "progress_note": job.progress_note,
        "result": job.result,
        "errors": job.errors,
        "tags": job.tags,
        "source": job.source,
        "source_id": job.source_id,
        "unique_key": job.unique_key,
        "worker_id": job.worker_id,
        "timeout": job.timeout,
        "cancel_requested_at": job.cancel_requested_at,
        "crash_count": job.crash_count,
        "hard_timeout": None if job.hard_timeout is None else exact_duration(job.hard_timeout),
        "options": job.options,
        "limit_key": job.limit_key,
        "solo": job.solo,
        "put_off": job.put_off,
        "put_off_reason": job.put_off_reason,
        "request_id": job.request_id,
    }
