"""Reads of jobs: one, many, pages, what is queued, how much there is."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.postgres.sql import SCHEMA

_COLUMNS: Final = (
    "j.id, j.name, j.queue, j.state, j.priority, j.args, j.kwargs, j.attempt, j.max_attempts, j.run_at, j.enqueued_at,"
    " j.started_at, j.finished_at, j.expires_at, j.progress, j.progress_note, j.result, j.errors, j.tags, j.source,"
    " j.source_id, j.unique_key, j.worker_id, j.timeout, j.cancel_requested_at, j.crash_count,"
    " j.hard_timeout, j.options, j.limit_key, j.solo, j.put_off, j.put_off_reason"
)


def _job(row: Row[Any]) -> Job:
    values: list[Any] = list(row)
    values[3] = JobState(values[3])
    return Job(*values)


_BY_IDS: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.jobs j WHERE j.id = ANY(:ids)")


def get(connection: Connection, job_id: UUID) -> Job | None:
    row = connection.execute(_BY_IDS, {"ids": [job_id]}).one_or_none()
    return None if row is None else _job(row)


def get_many(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Job]:
    return {row[0]: _job(row) for row in connection.execute(_BY_IDS, {"ids": list(ids)})}


_STATES: Final = text(f"SELECT id, state FROM {SCHEMA}.jobs WHERE id = ANY(:ids)")


def states(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, JobState]:
    return {row[0]: JobState(row[1]) for row in connection.execute(_STATES, {"ids": list(ids)})}


def page(connection: Connection, which: JobFilter, *, before: UUID | None, limit: int) -> list[Job]:
    """The newest jobs that fit, below the keyset position `before`; ids are in order of enqueueing."""
    clauses, parameters = which.conditions()
    if before is not None:
        clauses.append("j.id < :before")
        parameters["before"] = before
    where = " AND ".join(clauses) or "true"
    statement = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.jobs j WHERE {where} ORDER BY j.id DESC LIMIT :limit")
    return [_job(row) for row in connection.execute(statement, {**parameters, "limit": limit})]


def matching(connection: Connection, which: JobFilter, *, limit: int) -> list[UUID]:
    """The ids of the oldest `limit` jobs that fit, for a verb by filter."""
    clauses, parameters = which.conditions()
    where = " AND ".join(clauses) or "true"
    statement = text(f"SELECT j.id FROM {SCHEMA}.jobs j WHERE {where} ORDER BY j.id LIMIT :limit")
    return list(connection.execute(statement, {**parameters, "limit": limit}).scalars())


def count(connection: Connection, which: JobFilter, *, limit: int) -> int:
    """How many jobs fit; counts no further than `limit`."""
    clauses, parameters = which.conditions()
    where = " AND ".join(clauses) or "true"
    statement = text(
        f"SELECT count(*) FROM (SELECT FROM {SCHEMA}.jobs j WHERE {where} LIMIT :limit) AS counted"
    )
    return int(connection.execute(statement, {**parameters, "limit": limit}).scalar_one())
