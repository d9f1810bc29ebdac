"""SQL for schedules and their ticks."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.model.basics.json_values import encode
from callboard.jobs.model.new_job import ARGUMENTS_LIMIT
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres.rows.binary_arrays import Texts, Uuids
from callboard.jobs.postgres.sql import SCHEMA, columns, outside_years
from callboard.jobs.schedules.schedule import Schedule, Tick

_COLUMNS: Final = columns(Schedule)
_CREATE: Final = text(f"""
INSERT INTO {SCHEMA}.schedules (
  id, name, job, queue, priority, args, kwargs, cron, every, at, timezone, dst_gap, overlap, catchup,
  catchup_window, created_at, next_fire_at)
VALUES (
  :id, :name, :job, :queue, :priority, CAST(:args AS jsonb), CAST(:kwargs AS jsonb), :cron, :every, :at,
  :timezone, :dst_gap, :overlap, :catchup, :catchup_window, :created_at, :next_fire_at)
RETURNING {_COLUMNS}
""")


def create(connection: Connection, values: dict[str, Any]) -> Schedule:
    """Insert a schedule; `values` are by column. Raises Duplicate when the name is taken."""
    encoded = {
        key: encode(values[key], limit=ARGUMENTS_LIMIT, what=key).decode() for key in ("args", "kwargs")
    }
    return Schedule(*connection.execute(_CREATE, {**values, **encoded}).one())


_LIST: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.schedules ORDER BY name LIMIT 1000")
_GET: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.schedules WHERE name = :name")
_GET_LOCKED: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.schedules WHERE name = :name FOR UPDATE")
_DELETE: Final = text(f"DELETE FROM {SCHEMA}.schedules WHERE name = :name")


def every(connection: Connection) -> list[Schedule]:
    """Return the schedules, sorted by name; 1,000 at most."""
    return _schedules(connection.execute(_LIST))


def get(connection: Connection, name: str, *, lock: bool = False) -> Schedule | None:
    """Return the schedule of this name. lock: hold its row until the transaction ends."""
    row = connection.execute(_GET_LOCKED if lock else _GET, {"name": name}).one_or_none()
    return None if row is None else Schedule(*row)


def delete(connection: Connection, name: str) -> bool:
    """Delete a schedule and its ticks; returns False when there is none of this name."""
    return connection.execute(_DELETE, {"name": name}).rowcount == 1


_PAUSE: Final = text(f"""
UPDATE {SCHEMA}.schedules SET paused_at = coalesce(paused_at, statement_timestamp()), next_fire_at = NULL
WHERE id = :id
""")
_RESUME: Final = text(f"UPDATE {SCHEMA}.schedules SET paused_at = NULL, next_fire_at = :next WHERE id = :id")


def pause(connection: Connection, schedule: UUID) -> None:
    """Mark a schedule as paused. If it is paused already, the time of its pause does not change."""
    connection.execute(_PAUSE, {"id": schedule})


def resume(connection: Connection, schedule: UUID, next_fire_at: datetime | None) -> None:
    """End the pause of a schedule and set its next tick."""
    connection.execute(_RESUME, {"id": schedule, "next": next_fire_at})


class RowVersion(NamedTuple):
    """A schedule's row as it is now. `version` changes with every update of the row."""

    id: UUID
    version: str


_DUE: Final = text(f"""
SELECT xmin::text, {_COLUMNS} FROM {SCHEMA}.schedules s WHERE next_fire_at <= statement_timestamp()
  AND NOT EXISTS (SELECT FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS text[])) AS w(id, version)
    WHERE w.id = s.id AND w.version = s.xmin::text)
ORDER BY next_fire_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
""")


def lock_due(
    connection: Connection, limit: int, without: Sequence[RowVersion] = ()
) -> list[tuple[RowVersion, Schedule]]:
    """Return the schedules whose next tick is due, and hold their rows until the transaction ends.

    A row that another transaction holds is left out, and so are the rows of `without` that did not change.
    """
    parameters = {
        "limit": limit,
        "ids": Uuids([one.id for one in without]),
        "versions": Texts([one.version.encode() for one in without]),
    }
    rows = connection.execute(_DUE, parameters)
    found = [(version, Schedule(*values)) for version, *values in rows]
    return [(RowVersion(schedule.id, version), schedule) for version, schedule in found]


_PAGE: Final = text(f"""
SELECT {_COLUMNS} FROM {SCHEMA}.schedules WHERE name > :after ORDER BY name LIMIT :limit FOR UPDATE
""")


def lock_page(connection: Connection, after: str, limit: int) -> list[Schedule]:
    """Return schedules in the order of their names, after this name, and hold their rows."""
    return _schedules(connection.execute(_PAGE, {"after": after, "limit": limit}))


def _schedules(rows: Iterable[Any]) -> list[Schedule]:
    return [Schedule(*row) for row in rows]


_TICKED: Final = text(f"""
SELECT EXISTS (
  SELECT FROM {SCHEMA}.schedule_ticks
  WHERE schedule_id = :schedule AND nominal_at = :nominal AND result <> 'missed')
""")


def ticked(connection: Connection, schedule: UUID, nominal: datetime) -> bool:
    """Return whether this nominal time has fired or was skipped. The caller holds the schedule's row.

    A missed tick counts as undecided: when its time comes again, the database's clock was set back.
    """
    return bool(connection.execute(_TICKED, {"schedule": schedule, "nominal": nominal}).scalar_one())


_RECORD: Final = text(f"""
INSERT INTO {SCHEMA}.schedule_ticks AS t (schedule_id, nominal_at, result, reason, job_id)
VALUES (:schedule_id, :nominal_at, :result, :reason, :job_id)
ON CONFLICT (schedule_id, nominal_at) DO UPDATE
SET result = excluded.result, reason = excluded.reason, job_id = excluded.job_id,
  decided_at = excluded.decided_at
WHERE t.result = 'missed'
""")


def record(connection: Connection, tick: Tick) -> bool:
    """Insert a tick; returns False when its nominal time has one already that was not missed."""
    return connection.execute(_RECORD, asdict(tick)).rowcount == 1


_ADVANCE: Final = text(f"""
UPDATE {SCHEMA}.schedules SET next_fire_at = :next, last_fire_at = coalesce(:fired, last_fire_at),
  last_job_id = coalesce(:job, last_job_id) WHERE id = :id
""")


def advance(
    connection: Connection,
    schedule: UUID,
    *,
    next_fire_at: datetime | None,
    fired: datetime | None,
    job: UUID | None,
) -> None:
    """Set the next tick of a schedule and, if it fired, the last tick and its job (None: keep them)."""
    connection.execute(_ADVANCE, {"id": schedule, "next": next_fire_at, "fired": fired, "job": job})


_LAST_STATE: Final = text(f"SELECT state FROM {SCHEMA}.jobs WHERE id = :id")


def last_state(connection: Connection, schedule: Schedule) -> JobState | None:
    """Return the state of the job that the last tick enqueued; None when there is no such job any more."""
    state = connection.execute(_LAST_STATE, {"id": schedule.last_job_id}).scalar_one_or_none()
    return None if state is None else JobState(state)


_ODD_TICKS: Final = text(f"""
SELECT schedule_id::text FROM {SCHEMA}.schedule_ticks t WHERE {outside_years("t.decided_at")} LIMIT 100
""")


def odd_ticks(connection: Connection) -> list[str]:
    """Return the schedules of up to 100 ticks that were decided at a time that Python cannot hold."""
    return list(connection.execute(_ODD_TICKS).scalars())


_TICKS: Final = text(f"""
SELECT {columns(Tick, "t")} FROM {SCHEMA}.schedule_ticks t
JOIN {SCHEMA}.schedules s ON s.id = t.schedule_id WHERE s.name = :name ORDER BY t.nominal_at DESC LIMIT :limit
""")


def ticks(connection: Connection, name: str, limit: int) -> list[Tick]:
    """Return the latest ticks of a schedule, newest first."""
    return [Tick(*row) for row in connection.execute(_TICKS, {"name": name, "limit": limit})]


_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.schedule_ticks WHERE (schedule_id, nominal_at) IN (
  SELECT schedule_id, nominal_at FROM {SCHEMA}.schedule_ticks
  WHERE decided_at < statement_timestamp() - CAST(:age AS interval)
  ORDER BY decided_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, age: timedelta, limit: int) -> int:
    """Delete up to `limit` ticks that were decided longer than `age` ago; return how many."""
    return connection.execute(_PRUNE, {"age": age, "limit": limit}).rowcount
