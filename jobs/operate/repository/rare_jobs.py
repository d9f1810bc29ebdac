"""The jobs of a name or a queue that few jobs have: a walk from the newest job would read all others."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA

#: More jobs than this are found sooner by a walk: among a million jobs, both take as long for some 300.
_FEW: Final = 200


def rare_ids(connection: Statements, which: JobFilter) -> list[UUID] | None:
    """Return the ids of all jobs of the filter's name and queue, if they are few.

    None if there are more, or if the filter has neither. The index `jobs_names` has no running jobs, because
    a job would enter it once more with its claim. Nothing here is sorted, so the planner has no other index.
    """
    given = {key: value for key in ("name", "queue") if (value := getattr(which, key)) is not None}
    if not given:
        return None
    where = " AND ".join(f"j.{column} = :{column}" for column in given)
    parameters: dict[str, Any] = {**given, "most": _FEW + 1}
    statement = text(f"""
(SELECT j.id FROM {SCHEMA}.jobs j WHERE j.state <> 'running' AND {where} LIMIT :most)
UNION ALL (SELECT j.id FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND {where} LIMIT :most)
""")
    found = [row[0] for row in connection.execute(statement, parameters)]
    return found if len(found) <= _FEW else None
