"""The log lines of attempts: written in batches, read in keyset pages, deleted with their job."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.attempts.log_lines import Portion
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA, columns

# Each job is looked up by primary key and locked against deletion. The lines of a deleted job are left out.
# If a line exists already, an earlier call wrote it but its answer was lost; or the notice of dropped lines
# replaces it.
_WRITE: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT p.job, p.epoch, p.attempt, p.lines
  FROM jsonb_to_recordset(CAST(:portions AS jsonb)) AS p(job uuid, epoch int, attempt int, lines jsonb),
  LATERAL (
    SELECT j.id FROM {SCHEMA}.jobs j WHERE j.id = p.job FOR KEY SHARE OF j
  ) AS found
)
INSERT INTO {SCHEMA}.job_logs (job_id, epoch, line, attempt, logged_at, level, logger, message)
SELECT t.job, t.epoch, l.line, t.attempt, to_timestamp(l.at), l.level, l.logger, l.message
FROM target t, LATERAL jsonb_to_recordset(t.lines)
  AS l(line int, at double precision, level text, logger text, message text)
ON CONFLICT (job_id, epoch, line)
DO UPDATE SET level = EXCLUDED.level, logger = EXCLUDED.logger, message = EXCLUDED.message
""")


def write(connection: Statements, portions: Sequence[Portion]) -> int:
    """Write lines of attempts, except those of deleted jobs; return how many were written."""
    encoded = [
        {
            "job": portion.job_id,
            "epoch": portion.epoch,
            "attempt": portion.attempt,
            "lines": [
                {
                    "line": one.line,
                    "at": one.logged_at,
                    "level": one.level,
                    "logger": one.logger,
                    "message": one.message,
                }
                for one in portion.lines
            ],
        }
        for portion in sorted(portions, key=lambda portion: portion.job_id)
    ]
    return connection.execute(_WRITE, {"portions": orjson.dumps(encoded).decode()}).rowcount


_TRIM: Final = text(f"""
DELETE FROM {SCHEMA}.job_logs l
USING jsonb_to_recordset(CAST(:bounds AS jsonb)) AS b(job uuid, epoch int, first int)
WHERE l.job_id = b.job AND l.epoch = b.epoch AND l.line < b.first
""")


def trim(connection: Statements, portions: Sequence[Portion]) -> int:
    """Delete the lines of these attempts below `keep_from`; return how many were deleted."""
    bounds = [{"job": one.job_id, "epoch": one.epoch, "first": one.keep_from} for one in portions]
    return connection.execute(_TRIM, {"bounds": orjson.dumps(bounds).decode()}).rowcount


_COLUMNS: Final = columns(JobLogLine, "l")
_STATE: Final = text(f"SELECT state FROM {SCHEMA}.jobs WHERE id = :job")


def job_state(connection: Connection, job_id: UUID) -> JobState | None:
    """Return the state of a job; None when there is no such job."""
    state = connection.execute(_STATE, {"job": job_id}).scalar_one_or_none()
    return None if state is None else JobState(state)


def page(
    connection: Connection, job_id: UUID, *, attempt: int | None, after: tuple[int, int], limit: int
) -> list[JobLogLine]:
    """Return lines of a job after the keyset position `after` (epoch, line), oldest first."""
    narrowed, parameters = _of(job_id, attempt)
    statement = text(
        f"SELECT {_COLUMNS} FROM {SCHEMA}.job_logs l WHERE {narrowed} AND (l.epoch, l.line) > (:epoch, :line)"
        " ORDER BY l.epoch, l.line LIMIT :limit"
    )
    values = {**parameters, "epoch": after[0], "line": after[1], "limit": limit}
    return [JobLogLine(*row) for row in connection.execute(statement, values)]


def newest(connection: Connection, job_id: UUID, *, attempt: int | None, limit: int) -> list[JobLogLine]:
    """Return the newest lines of a job, oldest first."""
    narrowed, parameters = _of(job_id, attempt)
    statement = text(
        f"SELECT {_COLUMNS} FROM {SCHEMA}.job_logs l WHERE {narrowed}"
        " ORDER BY l.epoch DESC, l.line DESC LIMIT :limit"
    )
    found = connection.execute(statement, {**parameters, "limit": limit}).all()
    return [JobLogLine(*row) for row in reversed(found)]


def _of(job_id: UUID, attempt: int | None) -> tuple[str, dict[str, Any]]:
    if attempt is None:
        return "l.job_id = :job", {"job": job_id}
    return "l.job_id = :job AND l.attempt = :attempt", {"job": job_id, "attempt": attempt}
