"""Read queues for the workers that serve them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from callboard.jobs.attempts.worker import ServedQueue
from callboard.jobs.postgres.schema import VERSION
from callboard.jobs.postgres.sql import SCHEMA, columns

# OFFSET 0 keeps each EXISTS a single index lookup. Without it Postgres may hash all queued jobs.
_READY: Final = f"""q.paused_at IS NULL AND CASE WHEN q.limited
  THEN EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.queue = q.name AND g.started_at IS NULL OFFSET 0)
  ELSE EXISTS (
    SELECT FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo OFFSET 0)
  END"""
_HAS_RATE: Final = "num_nonnulls(q.rate, q.key_rate) > 0"
_SERVED_QUEUE: Final = columns(
    ServedQueue,
    "q",
    counts_running=f"q.concurrency IS NOT NULL OR (q.key_concurrency IS NOT NULL AND {_HAS_RATE})",
    counts_by_key=f"q.key_concurrency IS NOT NULL AND q.concurrency IS NULL AND NOT {_HAS_RATE}",
    counts_starts=_HAS_RATE,
    ready=_READY,
)
_SERVED: Final = text(f"""
SELECT {VERSION}, {_SERVED_QUEUE} FROM (SELECT) AS one LEFT JOIN {SCHEMA}.queues q
ON CAST(:names AS text[]) = '{{}}' OR q.name = ANY(CAST(:names AS text[])) ORDER BY q.name
""")


class Served(NamedTuple):
    """The queues that a worker serves, and the version of the tables."""

    queues: list[ServedQueue]
    version: str | None


def served(connection: Connection, names: Sequence[str]) -> Served:
    """Return the queues of these names that exist, sorted by name. No names: all queues."""
    rows = connection.execute(_SERVED, {"names": list(names)}).all()
    # Without a queue there is one row, which has only the version.
    version = next((row[0] for row in rows), None)
    return Served([ServedQueue(*row[1:]) for row in rows if row.name is not None], version)
