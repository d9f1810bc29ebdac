"""Reads of jobs: one, many, a page, and counts."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA, columns

_COLUMNS: Final = columns(Job, "j")
_STATE_AT: Final = [field.name for field in fields(Job)].index("state")


def _job(row: Row[Any]) -> Job:
    values: list[Any] = list(row)
    values[_STATE_AT] = JobState(values[_STATE_AT])
    return Job(*values)


_BY_IDS: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.jobs j WHERE j.id = ANY(:ids)")


def get(connection: Statements, job_id: UUID) -> Job | None:
    """Return the job; None when there is no such job."""
    row = connection.execute(_BY_IDS, {"ids": [job_id]}).one_or_none()
    return None if row is None else _job(row)


def get_many(connection: Statements, ids: Sequence[UUID]) -> dict[UUID, Job]:
    """Return the jobs of these ids that exist, by id."""
    jobs = [_job(row) for row in connection.execute(_BY_IDS, {"ids": list(ids)})]
    return {job.id: job for job in jobs}


_STATES: Final = text(f"SELECT id, state FROM {SCHEMA}.jobs WHERE id = ANY(:ids)")


def states(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, JobState]:
    """Return the states of the jobs of these ids that exist, by id."""
    return {row.id: JobState(row.state) for row in connection.execute(_STATES, {"ids": list(ids)})}


def page(connection: Connection, which: JobFilter, *, before: UUID | None, limit: int) -> list[Job]:
    """Return the newest jobs that match, before the keyset position `before`.

    Ids are in the order of enqueueing.
    """
    clauses, parameters = which.conditions()
    if before is not None:
        clauses.append("j.id < :before")
        parameters["before"] = before
    where = " AND ".join(clauses) or "true"
    statement = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.jobs j WHERE {where} ORDER BY j.id DESC LIMIT :limit")
    return [_job(row) for row in connection.execute(statement, {**parameters, "limit": limit})]


def matching(connection: Connection, which: JobFilter, *, limit: int) -> list[UUID]:
    """Return the ids of the oldest `limit` jobs that match."""
    clauses, parameters = which.conditions()
    where = " AND ".join(clauses) or "true"
    statement = text(f"SELECT j.id FROM {SCHEMA}.jobs j WHERE {where} ORDER BY j.id LIMIT :limit")
    return list(connection.execute(statement, {**parameters, "limit": limit}).scalars())


def count(connection: Connection, which: JobFilter, *, limit: int) -> int:
    """Return how many jobs match. The count stops at `limit`."""
    clauses, parameters = which.conditions()
    where = " AND ".join(clauses) or "true"
    statement = text(
        f"SELECT count(*) FROM (SELECT FROM {SCHEMA}.jobs j WHERE {where} LIMIT :limit) AS counted"
    )
    return int(connection.execute(statement, {**parameters, "limit": limit}).scalar_one())
