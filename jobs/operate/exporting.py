"""What waits, as messages for another Dramatiq broker: how a program leaves Callboard."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.ids import made_at
from callboard.jobs.model.job import Job
from callboard.jobs.model.retry import UNLIMITED_ATTEMPTS
from callboard.jobs.model.states import PENDING, JobState
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository import reading
from callboard.jobs.postgres.database import Database

#: The jobs of a page. A job may have megabytes of arguments.
_PAGE: Final = 100
_LAST_ID: Final = UUID(int=2**128 - 1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def waiting_messages(
    database: Database, *, queue: str | None = None, states: Sequence[JobState] = (), app: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the jobs that have not started as Dramatiq's messages, oldest first. Nothing is changed.

    states: by default, every state in which a job waits. Raises InvalidInput for another state.
    app:    the namespace of this application. The names of its actors do not begin with it.

    A job that is due later has the option `eta`, in milliseconds since 1970.
    """
    wanted = tuple(state for state in JobState if state in (states or PENDING))
    if not PENDING.issuperset(wanted):
        raise InvalidInput(
            f"only jobs that wait can be exported: {', '.join(sorted(PENDING))}",
            fields={"state": f"one of {', '.join(sorted(PENDING))}"},
        )
    lowest = UUID(int=0)
    while True:
        which = JobFilter(states=wanted, queue=queue, between=(lowest, _LAST_ID))
        with database.autocommit() as connection:
            ids = reading.matching(connection, which, limit=_PAGE)
            found = reading.get_many(connection, ids)
        # A job may have started between the two reads.
        yield from (message_of(found[one], app) for one in ids if one in found and found[one].state in wanted)
        if len(ids) < _PAGE:
            return
        lowest = UUID(int=ids[-1].int + 1)


def message_of(job: Job, app: str | None = None) -> dict[str, Any]:
    """Return a job as the fields of a message: a stock worker goes on where this job stands."""
    options: dict[str, Any] = dict((job.options or {}).get("message") or {})
    endless = job.max_attempts >= UNLIMITED_ATTEMPTS
    options.setdefault("max_retries", None if endless else job.max_attempts - 1)
    if job.attempt:
        options["retries"] = job.attempt
    if job.timeout is not None:
        options.setdefault("time_limit", job.timeout // _MILLISECOND)
    for name in ("min_backoff", "max_backoff"):
        bound = (job.options or {}).get(name)
        if bound is not None:
            options.setdefault(name, round(bound * 1000))
    # The message may have been made long before it was sent. Its age counts from then.
    timestamp = min(_milliseconds(job.enqueued_at), made_at(job.id))
    if job.expires_at is not None:
        options.setdefault("max_age", max(1, _milliseconds(job.expires_at) - timestamp))
    if job.state in {JobState.SCHEDULED, JobState.RETRYING}:
        options["eta"] = _milliseconds(job.run_at)
    return {
        "queue_name": job.queue,
        "actor_name": job.name if app is None else job.name.removeprefix(f"{app}."),
        "args": job.args,
        "kwargs": job.kwargs,
        "options": options,
        "message_id": str(job.id),
        "message_timestamp": timestamp,
    }


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
