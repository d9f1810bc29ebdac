"""The verbs outside an attempt: what the reaper, the feeder, an operator and the pruner do to jobs. One guarded statement each.

With `jobs.py` the only writer of a job's state; the same rules hold.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, text

from callboard.jobs.model.states import TERMINAL, JobState
from callboard.jobs.postgres.sql import SCHEMA, in_states

_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.jobs WHERE id IN (
  SELECT id FROM {SCHEMA}.jobs
  WHERE {in_states(TERMINAL)} AND finished_at < statement_timestamp() - CAST(:age AS interval) AND state = ANY(:states)
  ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, states: Iterable[JobState], age: timedelta, limit: int) -> int:
    """delete: terminal jobs of these states that finished longer than `age` ago; returns how many."""
    parameters = {"states": [str(state) for state in states], "age": age, "limit": limit}
    return connection.execute(_PRUNE, parameters).rowcount
