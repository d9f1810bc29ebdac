"""Read rows with times and intervals that Python cannot hold, such as `infinity`.

The driver raises an error for such a value, and then none of the result's rows can be read. So a result is
first read as usual, at full speed. Only after an error, it is read again with loaders that return an
Unreadable in place of such a value.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any, Final, TypeVar

import psycopg
from psycopg.adapt import AdaptersMap, Buffer, Transformer
from psycopg.types.datetime import (
    IntervalBinaryLoader,
    IntervalLoader,
    TimestamptzBinaryLoader,
    TimestamptzLoader,
)

from callboard.jobs.model.unreadable import UnreadableSpan, UnreadableTime

T = TypeVar("T")

_MICROSECONDS: Final = Struct(">q")
_INTERVAL: Final = Struct(">qii")
_MOST: Final = 2**63 - 1
#: The binary format counts from 2000-01-01.
_EPOCH_YEAR: Final = 2000
_YEAR_IN_MICROSECONDS: Final = 31_556_952_000_000
_DAY_IN_MICROSECONDS: Final = 86_400_000_000


def read(cursor: "psycopg.Cursor[Any]", fetch: Callable[[], T]) -> T:
    """Return what `fetch` returns, which reads rows of this cursor. An unreadable value is an Unreadable."""
    try:
        return fetch()
    except psycopg.DataError:
        usual = cursor._tx  # noqa: SLF001 - the driver has no other way to read a result again
        cursor._tx = Transformer(_Tolerant(cursor))  # noqa: SLF001
        cursor._tx.set_pgresult(cursor.pgresult)  # noqa: SLF001
        try:
            return fetch()
        finally:
            cursor._tx = usual  # noqa: SLF001


class _Tolerant:
    """A context of the driver with the loaders of this page."""

    def __init__(self, cursor: "psycopg.Cursor[Any]") -> None:
        self.adapters = AdaptersMap(cursor.adapters)
        self.connection = cursor.connection
        for name, loader in _LOADERS:
            self.adapters.register_loader(name, loader)


class _Times(TimestamptzLoader):
    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            text = bytes(data).decode()
            return UnreadableTime.of(text, early=text.startswith("-") or text.endswith("BC"))


class _BinaryTimes(TimestamptzBinaryLoader):
    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            since = _MICROSECONDS.unpack(data)[0]
            return UnreadableTime.of(_written(since), early=since < 0)


class _Intervals(IntervalLoader):
    def load(self, data: Buffer) -> Any:
        text = bytes(data).decode()
        try:
            # The driver's pattern is met by any text, and reads `infinity` as nothing.
            if not text.endswith("infinity"):
                return super().load(data)
        except psycopg.DataError:
            pass
        return UnreadableSpan.of(text, negative=text.startswith("-"))


class _BinaryIntervals(IntervalBinaryLoader):
    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            micros, days, months = _INTERVAL.unpack(data)
            if micros in (_MOST, -_MOST - 1):
                text = "infinity" if micros > 0 else "-infinity"
            else:
                text = f"{months} mons {days} days"
            total = micros + (days + 30 * months) * _DAY_IN_MICROSECONDS
            return UnreadableSpan.of(text, negative=total < 0)


_LOADERS: Final = (
    ("timestamptz", _Times),
    ("timestamptz", _BinaryTimes),
    ("interval", _Intervals),
    ("interval", _BinaryIntervals),
)


def _written(since: int) -> str:
    """Return a time in microseconds since 2000 as a text."""
    if since in (_MOST, -_MOST - 1):
        return "infinity" if since > 0 else "-infinity"
    year = _EPOCH_YEAR + since // _YEAR_IN_MICROSECONDS
    return f"the year {year}" if year > 0 else f"the year {1 - year} BC"
