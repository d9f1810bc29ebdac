"""Rows as somebody may change them by hand, past the constraints of the tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import CheckConstraint, MetaData, text
from sqlalchemy.schema import AddConstraint, DropConstraint

from callboard.jobs.platform import Platform
from callboard.jobs.tables import METADATA

_CONSTRAINED = ("schedules", "queues", "webhook_sources", "api_keys")
TIMES = ("infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "12345-01-01 00:00:00+00")
SPANS = ("1 mon", "-1 hour", "1000000000 days", "0")
NO_LIST = ("null", "5", '"text"', "{}")
NO_OBJECT = ("null", "5", '"text"', "[]")


def quoted(values: tuple[str, ...], kind: str) -> list[str]:
    return [f"'{value}'::{kind}" for value in values]


#: What keeps a schedule from ticking: assignments of SQL.
SPOILED_SCHEDULES = [
    *(f"every = NULL, at = {time}" for time in quoted(TIMES, "timestamptz")),
    *(f"every = {span}" for span in quoted(("-1 hour", "1000000000 days", "0", "-1 mon"), "interval")),
    *(f"every = NULL, cron = '{cron}'" for cron in ("", "* * *", "99 * * * *", "0 0 31 2 *", "\x01\n")),
    *(f"catchup_window = {span}" for span in quoted(("-1 hour", "1000000000 days"), "interval")),
    *(f"timezone = '{zone}'" for zone in ("", "Mars/Olympus", "../../etc/passwd", "a\nb")),
    *(f"args = {value}" for value in quoted(NO_LIST, "jsonb")),
    *(f"kwargs = {value}" for value in quoted(NO_OBJECT, "jsonb")),
    "job = ''", "job = repeat('x', 1000000)", "queue = ''", "queue = repeat('x', 300)",
    "overlap = 'buffer_all'", "catchup = 'all'", "dst_gap = 'twice'", "priority = 99",
]  # fmt: skip
#: What is wrong with a schedule, and does not keep it from ticking.
ODD_SCHEDULES = [
    *(f"created_at = {time}, every = NULL, cron = '0 0 1 1 *'" for time in quoted(TIMES, "timestamptz")),
    *(f"last_fire_at = {time}" for time in quoted(TIMES, "timestamptz")),
    "every = '1 mon'",
]
#: What is wrong with a job.
SPOILED_JOBS = [
    *(
        f"{column} = {time}"
        for time in quoted(TIMES, "timestamptz")
        for column in ("enqueued_at", "run_at", "expires_at", "started_at", "cancel_requested_at")
    ),
    *(f"timeout = {span}" for span in quoted(SPANS, "interval")),
    *(f"hard_timeout = {span}" for span in quoted(SPANS, "interval")),
    *(f"options = {value}" for value in quoted(("null", "5", '"text"', "[]"), "jsonb")),
    *(
        f"options = '{value}'::jsonb"
        for value in ('{"message": 5}', '{"min_backoff": "x"}', '{"max_backoff": -1}', '{"min_backoff": 1e300}')
    ),
    *(f"errors = {value}" for value in quoted(("null", "5", "{}", "[5]", '[{"class": 5}]'), "jsonb")),
    "tags = ARRAY[NULL, 'a']", "tags = ARRAY[ARRAY['a'], ARRAY['b']]", "result = 'null'::jsonb",
    "attempt = 2147483647", "attempt = 0", "epoch = 2147483647", "put_off = 32767", "crash_count = 32767",
    "name = E'a\\nb'", "queue = E'a\\nb'", "args = '[1e400]'::jsonb",
]  # fmt: skip


@contextmanager
def unconstrained(platform: Platform) -> Iterator[None]:
    """Let every row pass the constraints of the small tables, as a row that is older than they are."""
    # Copies: SQLAlchemy does not create a table with a constraint that it has added or dropped by itself.
    copy = MetaData(naming_convention=METADATA.naming_convention)
    for table in METADATA.sorted_tables:
        table.to_metadata(copy)
    tables = [copy.tables[f"callboard.{name}"] for name in _CONSTRAINED]
    checks = [one for table in tables for one in table.constraints if isinstance(one, CheckConstraint)]
    with platform.database.transaction() as connection:
        for check in checks:
            connection.execute(DropConstraint(check))
    try:
        yield
    finally:
        with platform.database.transaction() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(table.fullname for table in tables)} CASCADE"))
            for check in checks:
                connection.execute(AddConstraint(check))


def change(platform: Platform, table: str, where: str, assignment: str, **values: Any) -> None:
    """Change rows as with psql: `assignment` is what stands after SET."""
    with platform.database.transaction() as connection:
        statement = f"UPDATE callboard.{table} SET {assignment} WHERE {where}".replace("::", r"\:\:")
        assert connection.execute(text(statement), values).rowcount > 0
