"""Indexes that a migration makes and drops while the table is in use."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA


def create_index(name: str, place: str) -> None:
    """Create an index without blocking writes to its table. The migration must do this before anything else.

    place: the table and what follows it: "jobs (finished_at) WHERE finished_at IS NOT NULL".
    """
    with _without_transaction():
        # What an interrupted run left is not valid.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}")
        op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {SCHEMA}.{place}")


def drop_index(name: str) -> None:
    """Drop an index without blocking its table. The migration must do this before anything else."""
    with _without_transaction():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}")


@contextmanager
def _without_transaction() -> Iterator[None]:
    """Run statements in autocommit and without time limits.

    They wait for old transactions, and block nobody meanwhile.
    """
    with op.get_context().autocommit_block():
        for limit in ("lock_timeout", "statement_timeout"):
            op.execute(f"SET {limit} = 0")
        yield
