"""Rows by the million, straight into the table: what a platform with a past, or with a backlog, looks like."""

from benchmarks.arena import Arena

#: Ids as of 2025, in the form of UUIDv7: older than what is enqueued now, and in order, as real ones are.
_ID = "('01940000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_QUEUED = f"""
INSERT INTO callboard.jobs (id, name, queue, state, priority, max_attempts, run_at, source)
SELECT {_ID}, 'noop', 'bench', 'queued', 9, 10, statement_timestamp(), 'python' FROM generate_series(1, :count) AS n"""


def queue_behind(arena: Arena, count: int) -> None:
    """So many no-op jobs that come after all others of the queue: they have the last priority."""
    arena.sql(_QUEUED, count=count)
    settle(arena)


def settle(arena: Arena) -> None:
    """Statistics and a checkpoint, as after hours: what was loaded is not what is measured."""
    arena.sql("ANALYZE callboard.jobs")
    arena.sql("CHECKPOINT")
