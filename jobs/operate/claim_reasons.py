"""The reason of a job that a worker has claimed ahead."""

from datetime import datetime, timedelta

from callboard.jobs.model.basics.durations import format_duration
from callboard.jobs.model.job import Job
from callboard.jobs.operate.reasons import Code, Reason


def claimed(job: Job, worker: str, now: datetime) -> Reason:
    """Return that a worker holds the job, and that it has not begun."""
    since = job.started_at or now
    data = {"claimed_at": since, "worker_id": job.worker_id, "worker": worker, "attempt": job.attempt}
    ago = timedelta(seconds=max(round((now - since).total_seconds()), 0))
    told = f"claimed by worker {worker} {format_duration(ago)} ago, not started yet"
    return Reason(
        Code.CLAIMED, f"{told}: the jobs that run there come first", data,
        "start more workers, or lower CALLBOARD_SLOTS so that workers claim fewer jobs ahead",
    )  # fmt: skip
