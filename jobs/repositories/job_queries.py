"""Reads of jobs: one, many, pages, what is queued, how much there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Connection, Row, text

from jobs.models import URGENCY
from jobs.records import CancelRequest, Job
from jobs.states import JobState

_COLUMNS: Final = (
    "j.id, j.name, j.queue, j.state, j.priority, j.args, j.kwargs, j.attempt, j.max_attempts, j.run_at, j.enqueued_at,"
    " j.started_at, j.finished_at, j.expires_at, j.progress, j.progress_note, j.result, j.errors, j.tags, j.source,"
    " j.source_id, j.unique_key, j.worker_id, j.timeout, j.cancel_requested_at, j.crash_count,"
    " j.hard_timeout, j.options, j.limit_key, j.solo, j.put_off, j.put_off_reason"
)
#: The longest page of a list.
PAGE_LIMIT: Final = 200


def _job(row: Row[Any]) -> Job:
    values: list[Any] = list(row)
    values[3] = JobState(values[3])
    return Job(*values)


_BY_IDS: Final = text(f"SELECT {_COLUMNS} FROM callboard.jobs j WHERE j.id = ANY(:ids)")


def get(connection: Connection, job_id: UUID) -> Job | None:
    row = connection.execute(_BY_IDS, {"ids": [job_id]}).one_or_none()
    return None if row is None else _job(row)


def get_many(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Job]:
    return {row[0]: _job(row) for row in connection.execute(_BY_IDS, {"ids": list(ids)})}


_STATES: Final = text("SELECT id, state FROM callboard.jobs WHERE id = ANY(:ids)")


def states(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, JobState]:
    return {row[0]: JobState(row[1]) for row in connection.execute(_STATES, {"ids": list(ids)})}


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: every field that is set must fit. `search` looks into arguments, notes and errors."""

    states: tuple[JobState, ...] = ()
    queue: str | None = None
    name: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None

    def conditions(self) -> tuple[list[str], dict[str, Any]]:
        """SQL conditions on `j` and their parameters."""
        clauses: list[str] = []
        parameters: dict[str, Any] = {}
        if self.states:
            # Written out, not bound: the planner can then use the partial indexes.
            clauses.append("j.state IN (" + ", ".join(f"'{JobState(state)}'" for state in self.states) + ")")
        for column in ("queue", "name"):
            value = getattr(self, column)
            if value is not None:
                clauses.append(f"j.{column} = :{column}")
                parameters[column] = value
        if self.tag is not None:
            clauses.append("j.tags @> ARRAY[:tag] AND j.tags <> '{}'::text[]")
            parameters["tag"] = self.tag
        if self.since is not None:
            clauses.append("j.enqueued_at >= :since")
            parameters["since"] = self.since
        if self.until is not None:
            clauses.append("j.enqueued_at < :until")
            parameters["until"] = self.until
        if self.search is not None:
            clauses.append(
                "(j.kwargs::text ILIKE :search OR j.args::text ILIKE :search OR j.errors::text ILIKE :search"
                " OR j.progress_note ILIKE :search)"
            )
            parameters["search"] = f"%{_escaped(self.search)}%"
        return clauses, parameters


def _escaped(text_: str) -> str:
    return text_.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def page(connection: Connection, which: JobFilter, *, before: UUID | None, limit: int) -> list[Job]:
    """The newest jobs that fit, below the keyset position `before`; ids are in order of enqueueing."""
    clauses, parameters = which.conditions()
    if before is not None:
        clauses.append("j.id < :before")
        parameters["before"] = before
    where = " AND ".join(clauses) or "true"
    statement = text(f"SELECT {_COLUMNS} FROM callboard.jobs j WHERE {where} ORDER BY j.id DESC LIMIT :limit")
    return [_job(row) for row in connection.execute(statement, {**parameters, "limit": limit})]


def matching(connection: Connection, which: JobFilter, *, limit: int) -> list[UUID]:
    """The ids of the oldest `limit` jobs that fit, for a verb by filter."""
    clauses, parameters = which.conditions()
    where = " AND ".join(clauses) or "true"
    statement = text(f"SELECT j.id FROM callboard.jobs j WHERE {where} ORDER BY j.id LIMIT :limit")
    return list(connection.execute(statement, {**parameters, "limit": limit}).scalars())


def count(connection: Connection, which: JobFilter, *, limit: int) -> int:
    """How many jobs fit; counts no further than `limit`."""
    clauses, parameters = which.conditions()
    where = " AND ".join(clauses) or "true"
    statement = text(
        f"SELECT count(*) FROM (SELECT FROM callboard.jobs j WHERE {where} LIMIT :limit) AS counted"
    )
    return int(connection.execute(statement, {**parameters, "limit": limit}).scalar_one())


_QUEUED: Final = text(f"""
SELECT j.id::text, j.epoch, j.priority, floor(extract(epoch FROM j.run_at) * 1000)::bigint FROM callboard.jobs j
WHERE j.state = 'queued' AND j.queue = :queue AND NOT j.solo ORDER BY {URGENCY}, j.id LIMIT :limit OFFSET :offset
""")


def queued(
    connection: Connection, queue: str, limit: int, offset: int = 0
) -> list[tuple[str, int, int, int]]:
    """feed: the most urgent and oldest queued jobs of one queue, from the `offset`th on, but for those that run alone.

    Plain rows of id, epoch, priority and run_at in milliseconds: thousands of them are read several times a second.
    """
    parameters = {"queue": queue, "limit": limit, "offset": offset}
    return cast("list[tuple[str, int, int, int]]", connection.execute(_QUEUED, parameters).all())


_HEADS: Final = text(f"""
SELECT q.name, found.* FROM unnest(CAST(:queues AS text[])) AS q(name), LATERAL (
  SELECT j.id::text, j.epoch, j.priority, floor(extract(epoch FROM j.run_at) * 1000)::bigint FROM callboard.jobs j
  WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo ORDER BY {URGENCY}, j.id LIMIT :limit
) AS found
""")


def heads(
    connection: Connection, names: Sequence[str], limit: int
) -> dict[str, list[tuple[str, int, int, int]]]:
    """feed: the first of what `queued` reads, of several queues at once."""
    found: dict[str, list[tuple[str, int, int, int]]] = {name: [] for name in names}
    for name, *row in connection.execute(_HEADS, {"queues": list(names), "limit": limit}):
        found[name].append((row[0], row[1], row[2], row[3]))
    return found


_CANCEL_REQUESTED: Final = text("""
SELECT id, epoch, cancel_forced FROM callboard.jobs
WHERE state = 'running' AND worker_id = :worker AND cancel_requested_at IS NOT NULL
""")


def cancel_requested(connection: Connection, worker: UUID) -> list[CancelRequest]:
    """The jobs this worker runs that somebody wants stopped."""
    return [CancelRequest(*row) for row in connection.execute(_CANCEL_REQUESTED, {"worker": worker})]


_FORCED: Final = text("""
SELECT id FROM callboard.jobs WHERE state = 'running' AND worker_id = ANY(:workers) AND cancel_forced
""")


def forced(connection: Connection, workers: Sequence[UUID]) -> set[UUID]:
    """The jobs these workers run whose cancellation is forced."""
    return set(connection.execute(_FORCED, {"workers": list(workers)}).scalars())


_SERVER_TIME: Final = text("SELECT clock_timestamp()")


def server_time(connection: Connection) -> datetime:
    now: datetime = connection.execute(_SERVER_TIME).scalar_one()
    return now
