"""Queues: which there are, which are paused, what they hold."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from callboard.jobs.postgres.sql import SCHEMA


class Seen(NamedTuple):
    """A queue as workers see it. `ready`: it is not paused, and has a job, or if it is limited a grant, that is not taken."""

    name: str
    limited: bool
    ready: bool


# OFFSET 0: one look into the index for each, never a hash of all that is queued.
_SEEN: Final = text(f"""
SELECT q.name, q.limited, q.paused_at IS NULL AND CASE WHEN q.limited
  THEN EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.queue = q.name AND g.started_at IS NULL OFFSET 0)
  ELSE EXISTS (SELECT FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo OFFSET 0) END AS ready
FROM {SCHEMA}.queues q WHERE CAST(:wanted AS text[]) = '{{}}' OR q.name = ANY(CAST(:wanted AS text[])) ORDER BY q.name
""")


def seen(connection: Connection, wanted: Sequence[str]) -> list[Seen]:
    """Those of these queues that there are (none: all that there are), by name."""
    return [Seen(*row) for row in connection.execute(_SEEN, {"wanted": list(wanted)})]
