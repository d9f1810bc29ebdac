"""Insert a million jobs directly into the table, to make a long history or a long backlog."""

from sqlalchemy import text

from benchmarks.arena import Arena

#: Ids in the form of UUIDv7 with times in 2025: ordered, and older than those of jobs that are enqueued now.
_ID = "('01940000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_QUEUED = f"""
INSERT INTO callboard.jobs (id, name, queue, state, priority, max_attempts, run_at, source)
SELECT {_ID}, 'noop', 'bench', 'queued', 9, 10, statement_timestamp(), 'python'
FROM generate_series(1, :count) AS n"""
#: An id with the time of the enqueue, as a UUIDv7 has.
_ID_AT = (
    "(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000'"
    " || lpad(to_hex(n), 12, '0'))::uuid"
)
# Jobs of the last six days, half a second apart. 96 of 100 succeeded, one in 50 has tags, and one name and
# one queue are rare.
_FINISHED = f"""
INSERT INTO callboard.jobs (id, name, queue, state, priority, attempt, max_attempts, run_at, enqueued_at,
  started_at, finished_at, source, kwargs, tags, result, errors)
SELECT {_ID_AT}, CASE WHEN n % 100000 = 7 THEN 'rare' ELSE 'job' || n % 20 END,
  CASE WHEN n % 100000 = 9 THEN 'rare' ELSE 'queue' || n % 10 END, state, 5, 1, 10, at, at,
  at + interval '1s', at + interval '2s', 'python', jsonb_build_object('n', n),
  CASE WHEN n % 50 = 0 THEN ARRAY['tag' || n % 5000, 'team' || n % 4] ELSE '{{}}' END,
  '{{"pages": 12}}', CASE state WHEN 'failed'
    THEN '[{{"attempt": 1, "class": "ValueError", "message": "no", "traceback": ""}}]' ELSE '[]' END::jsonb
FROM (SELECT n, now() - (:count - n) * interval '500ms' AS at, CASE WHEN n % 100 < 96 THEN 'succeeded'
  WHEN n % 100 < 98 THEN 'failed' WHEN n % 100 < 99 THEN 'cancelled' ELSE 'quarantined' END AS state
  FROM generate_series(1, :count) AS n ORDER BY n) AS made"""
_IN_TEN_QUEUES = f"""
INSERT INTO callboard.jobs (id, name, queue, state, priority, max_attempts, run_at, source, kwargs)
SELECT {_ID}, 'noop', 'queue' || n % 10, 'queued', (ARRAY[0, 3, 5, 5, 5, 7, 9])[1 + n % 7], 10,
  now() - (:count - n) * interval '1ms', 'python', jsonb_build_object('n', n)
FROM generate_series(1, :count) AS n"""
_QUEUES = (
    "INSERT INTO callboard.queues (name) SELECT DISTINCT queue FROM callboard.jobs ON CONFLICT DO NOTHING"
)


def finished(arena: Arena, count: int) -> None:
    """Insert `count` finished jobs in 11 queues with 21 names."""
    _load(arena, _FINISHED, count)


def queued(arena: Arena, count: int) -> None:
    """Insert `count` queued jobs in ten queues with mixed priorities."""
    _load(arena, _IN_TEN_QUEUES, count)


def queue_behind(arena: Arena, count: int) -> None:
    """Insert `count` no-op jobs behind all others of the queue: they have the lowest priority."""
    _insert(arena, _QUEUED, count)
    settle(arena)


def settle(arena: Arena) -> None:
    """Update statistics and write a checkpoint, so that the inserts do not affect the measurement."""
    arena.sql("ANALYZE callboard.jobs")
    arena.sql("CHECKPOINT")


def _insert(arena: Arena, statement: str, count: int) -> None:
    with arena.platform.database.transaction() as connection:
        # A million rows may take longer than the platform's statements are allowed to.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text(statement), {"count": count})


def _load(arena: Arena, statement: str, count: int) -> None:
    _insert(arena, statement, count)
    arena.sql(_QUEUES)
    arena.sql("VACUUM callboard.jobs")
    settle(arena)
