"""The verb delete, for finished jobs that are older than their retention."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, text

from callboard.jobs.model.states import TERMINAL, JobState
from callboard.jobs.postgres.sql import SCHEMA, in_states

_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.jobs WHERE id IN (
  SELECT id FROM {SCHEMA}.jobs
  WHERE {in_states(TERMINAL)} AND finished_at < statement_timestamp() - CAST(:age AS interval)
    AND state = ANY(:states)
  ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, states: Iterable[JobState], age: timedelta, limit: int) -> int:
    """delete: up to `limit` jobs of these terminal states that finished longer than `age` ago; return how
    many.
    """
    parameters = {"states": [str(state) for state in states], "age": age, "limit": limit}
    return connection.execute(_PRUNE, parameters).rowcount
