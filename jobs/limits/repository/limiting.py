"""Read, lock and set the limits of queues."""

from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, text

from callboard.jobs.model.queue_limits import LONGEST_PERIOD, SHORTEST_PERIOD, Limits, Rate
from callboard.jobs.model.unreadable import RowProblem
from callboard.jobs.postgres.rows.ledger import LEDGER
from callboard.jobs.postgres.sql import SCHEMA

LIMITS: Final = "q.concurrency, q.rate, q.rate_period, q.key_concurrency, q.key_rate, q.key_rate_period"


def limits_of(row: Row[Any], queue: str) -> Limits:
    """Return the limits in the columns of LIMITS. The row of the queue may have been changed by hand."""
    LEDGER.report(limit_problems(row, queue))
    return Limits(
        row.concurrency,
        _rate(row.rate, row.rate_period),
        row.key_concurrency,
        _rate(row.key_rate, row.key_rate_period),
    )


def limit_problems(row: Row[Any], queue: str) -> list[RowProblem]:
    """Return the problems of the columns of LIMITS."""
    rates = [(name, getattr(row, name), getattr(row, f"{name}_period")) for name in ("rate", "key_rate")]
    reason = "whole seconds, between 1s and 1d, are expected"
    return [
        RowProblem("queues", queue, f"{name}_period", reason)
        for name, amount, period in rates
        if amount is not None and period != _nearest(period)
    ]


def _rate(amount: int | None, period: timedelta) -> Rate | None:
    return None if amount is None else Rate(amount, _nearest(period))


def _nearest(period: timedelta) -> timedelta:
    """Return the nearest period that a rate can have. So the queue stays limited, and its jobs go on."""
    seconds = timedelta(seconds=round(period.total_seconds()))
    return min(max(seconds, SHORTEST_PERIOD), LONGEST_PERIOD)


_LOCK: Final = text(f"""
SELECT {LIMITS}, q.within_limits, q.xmin::text AS version FROM {SCHEMA}.queues q
WHERE q.name = :queue AND q.limited AND q.paused_at IS NULL FOR NO KEY UPDATE
""")


class Locked(NamedTuple):
    """The limits of a queue that is locked."""

    limits: Limits
    #: Changes with every change of the row.
    version: str
    #: Whether no more jobs run than these limits allow, as far as it was counted.
    is_within: bool


def lock(connection: Connection, queue: str) -> Locked | None:
    """Lock a queue and return its limits. None: the queue is not limited, paused or unknown."""
    row = connection.execute(_LOCK, {"queue": queue}).one_or_none()
    return None if row is None else Locked(limits_of(row, queue), str(row.version), row.within_limits)


_NOTE_WITHIN: Final = text(f"""
UPDATE {SCHEMA}.queues q SET within_limits = :within WHERE q.name = :queue RETURNING q.xmin::text
""")


def note_within(connection: Connection, queue: str, *, within: bool) -> str:
    """Store whether no more jobs run than the limits of a locked queue allow; return its new version."""
    return str(connection.execute(_NOTE_WITHIN, {"queue": queue, "within": within}).scalar_one())


_SET: Final = text(f"""
UPDATE {SCHEMA}.queues SET concurrency = :concurrency, rate = :rate, rate_period = :rate_period,
  key_concurrency = :key_concurrency, key_rate = :key_rate, key_rate_period = :key_rate_period
WHERE name = :queue
""")
_LOCK_ANY: Final = text(f"SELECT {LIMITS} FROM {SCHEMA}.queues q WHERE q.name = :queue FOR NO KEY UPDATE")
_REVOKE: Final = text(f"DELETE FROM {SCHEMA}.grants WHERE queue = :queue AND started_at IS NULL")
_FORGET: Final = text(f"DELETE FROM {SCHEMA}.grants WHERE queue = :queue")


def now(connection: Connection, queue: str) -> Limits:
    """Lock an existing queue; return its limits."""
    return limits_of(connection.execute(_LOCK_ANY, {"queue": queue}).one(), queue)


def change(connection: Connection, queue: str, limits: Limits) -> None:
    """Set the limits. Unused grants of the old limits are revoked; the feeder makes new grants."""
    parameters = {
        "queue": queue,
        "concurrency": limits.concurrency,
        "rate": limits.rate and limits.rate.amount,
        "rate_period": limits.rate and limits.rate.period,
        "key_concurrency": limits.key_concurrency,
        "key_rate": limits.key_rate and limits.key_rate.amount,
        "key_rate_period": limits.key_rate and limits.key_rate.period,
    }
    connection.execute(_SET, parameters)
    connection.execute(_REVOKE if limits.any else _FORGET, {"queue": queue})
