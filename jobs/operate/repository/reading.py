"""Reads of jobs: one, many, a page, and counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.model.job import Job
from callboard.jobs.model.states import TERMINAL, JobState
from callboard.jobs.model.unreadable import RowProblem
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository.id_times import range_of
from callboard.jobs.operate.repository.job_rows import job_of, plain_job, problems_of
from callboard.jobs.operate.repository.rare_jobs import rare_ids
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA, columns, in_states, outside_years

_COLUMNS: Final = columns(Job, "j")
_TIMES: Final = (
    "run_at", "enqueued_at", "started_at", "finished_at", "expires_at", "cancel_requested_at",
)  # fmt: skip
_BY_IDS: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.jobs j WHERE j.id = ANY(:ids)")


def get(connection: Statements, job_id: UUID) -> Job | None:
    """Return the job; None when there is no such job."""
    row = connection.execute(_BY_IDS, {"ids": [job_id]}).one_or_none()
    return None if row is None else job_of(row)


def get_many(connection: Statements, ids: Sequence[UUID]) -> dict[UUID, Job]:
    """Return the jobs of these ids that exist, by id."""
    jobs = [job_of(row) for row in connection.execute(_BY_IDS, {"ids": list(ids)})]
    return {job.id: job for job in jobs}


_STATES: Final = text(f"SELECT id, state FROM {SCHEMA}.jobs WHERE id = ANY(:ids)")


def states(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, JobState]:
    """Return the states of the jobs of these ids that exist, by id."""
    return {row.id: JobState(row.state) for row in connection.execute(_STATES, {"ids": list(ids)})}


#: A page of a tag is looked for among this many jobs first. It takes three milliseconds.
_NEWEST: Final = 10_000


def page(connection: Connection, which: JobFilter, *, before: UUID | None, limit: int) -> list[Job]:
    """Return the newest jobs that match, before the keyset position `before`.

    Ids are in the order of enqueueing.
    """
    clauses, parameters = which.conditions()
    few, ids = rare_ids(connection, which), range_of(which)
    places = []
    if few is None and ids is not None:
        places.append("j.id >= :from_id AND j.id < :end_id")
        parameters |= {"from_id": ids.lowest, "end_id": ids.end}
    if before is not None:
        places.append("j.id < :before")
        parameters["before"] = before
    if few is not None:
        places.append("j.id = ANY(:few)")
        parameters["few"] = few
    where = " AND ".join([*clauses, *places]) or "true"
    parameters["limit"] = limit
    if which.tag is not None and few is None:
        # The index of tags has no order: it reads all jobs of a tag. Those of a common tag are found sooner
        # among the newest jobs.
        newest = f"""
SELECT * FROM {SCHEMA}.jobs j WHERE {" AND ".join(places) or "true"} ORDER BY j.id DESC LIMIT :newest"""
        found = _page(connection, f"({newest})", where, {**parameters, "newest": _NEWEST})
        if len(found) == limit:
            return found
    return _page(connection, f"{SCHEMA}.jobs", where, parameters)


def _page(connection: Connection, jobs: str, where: str, parameters: Mapping[str, Any]) -> list[Job]:
    statement = text(f"SELECT {_COLUMNS} FROM {jobs} AS j WHERE {where} ORDER BY j.id DESC LIMIT :limit")
    return [job_of(row) for row in connection.execute(statement, parameters)]


_ODD: Final = text(f"""
SELECT {_COLUMNS} FROM (
  SELECT * FROM (
    SELECT * FROM {SCHEMA}.jobs WHERE state IN ('queued', 'running', 'scheduled', 'retrying', 'waiting')
    LIMIT :among) AS pending
  WHERE {" OR ".join(outside_years(time) for time in _TIMES)}
    OR least(timeout, hard_timeout) < interval '0' OR greatest(timeout, hard_timeout) > interval '3900 days'
    OR jsonb_typeof(errors) <> 'array' OR jsonb_typeof(options) <> 'object'
    OR CASE WHEN array_ndims(tags) > 1 THEN true ELSE array_position(tags, NULL) IS NOT NULL END
  UNION ALL (
    SELECT * FROM {SCHEMA}.jobs WHERE {in_states(TERMINAL)} AND {outside_years("finished_at")} LIMIT 100)
) j LIMIT 100
""")


def problems(connection: Connection, among: int) -> list[RowProblem]:
    """Return the problems of jobs that were changed by hand: of up to 100 jobs.

    among: how many unfinished jobs are read. Of the finished ones, those are read that are never pruned.
    """
    return [one for row in connection.execute(_ODD, {"among": among}) for one in problems_of(plain_job(row))]


def window(
    connection: Connection, which: JobFilter, *, after: UUID | None, newest: bool, size: int
) -> tuple[UUID, UUID] | None:
    """Return the lowest and the highest id of the next `size` jobs that a search reads; None at the end.

    newest: from the newest job to the oldest one.
    after:  begin after this job.
    """
    clauses, parameters = replace(which, search=None).conditions()
    if after is not None:
        clauses.append(f"j.id {'<' if newest else '>'} :after")
        parameters["after"] = after
    where = " AND ".join(clauses) or "true"
    statement = text(
        f"WITH part AS MATERIALIZED (SELECT j.id FROM {SCHEMA}.jobs j WHERE {where}"
        f" ORDER BY j.id {'DESC' if newest else 'ASC'} LIMIT :size)"
        " SELECT (SELECT id FROM part ORDER BY id LIMIT 1) AS lowest,"
        " (SELECT id FROM part ORDER BY id DESC LIMIT 1) AS highest"
    )
    row = connection.execute(statement, {**parameters, "size": size}).one()
    return None if row.lowest is None else (row.lowest, row.highest)


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
