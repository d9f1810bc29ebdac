"""The connections of the repositories, and the fast kind: statements directly on the driver.

SQLAlchemy's overhead for a statement takes as long as the statement itself. Here each text is compiled once,
arrays are encoded here, and rows are read in Postgres's binary format.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from struct import Struct
from typing import Any, ClassVar, Final
from uuid import UUID

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import tuple_row
from sqlalchemy import TextClause
from sqlalchemy.exc import DBAPIError

from callboard.jobs.postgres.repeating import repeat
from callboard.jobs.postgres.rows import tolerant
from callboard.jobs.postgres.sql import DIALECT, compiled


class DirectRows:
    """Rows of the driver. A row is converted only when it is read."""

    def __init__(self, cursor: "psycopg.Cursor[Any]") -> None:
        self._cursor = cursor
        self.rowcount = cursor.rowcount

    def all(self) -> list[Any]:
        return tolerant.read(self._cursor, self._cursor.fetchall) if self._has_rows() else []

    def first(self) -> Any:
        """Return the first row; the others are not converted."""
        return tolerant.read(self._cursor, self._cursor.fetchone) if self._has_rows() else None

    def one_or_none(self) -> Any:
        rows = self.all()
        return rows[0] if rows else None

    def scalar_one(self) -> Any:
        return self.all()[0][0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all())

    def _has_rows(self) -> bool:
        # The cursor's `description` would describe every column to answer this.
        result = self._cursor.pgresult
        return result is not None and result.nfields > 0


class DirectConnection:
    """Runs SQLAlchemy `text` on a psycopg connection. It raises SQLAlchemy's errors."""

    #: Whether a statement is prepared at once; None: after it was executed several times.
    _prepare: bool | None = True
    #: What runs a failed statement again, or raises its error.
    _again = staticmethod(repeat)

    def __init__(self, connection: "psycopg.Connection[Any]", schema: str, *, binary: bool = True) -> None:
        self._connection = connection
        self._schema = schema
        #: Not by `connection.cursor()`: a caller's connection may make another kind of cursor.
        self._cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        self._cursor.format = Format.BINARY if binary else Format.TEXT
        #: How many more statements may run.
        self.allowed = sys.maxsize

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None, /) -> DirectRows:
        if not self.allowed:
            raise RuntimeError("only one statement may run here: several need a transaction")
        self.allowed -= 1
        query = compiled(statement, self._schema)
        run = partial(self._cursor.execute, query, parameters or {}, prepare=self._prepare)
        try:
            try:
                run()
            except psycopg.Error as error:
                self._again(self._cursor, error, run)
        except psycopg.Error as error:
            wrapped = self._wrapped(error)
            if wrapped is error:
                raise
            raise wrapped from error
        return DirectRows(self._cursor)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Open a transaction on a connection in autocommit."""
        try:
            with self._connection.transaction():
                yield
        except psycopg.Error as error:
            raise self._wrapped(error) from error

    @property
    def is_closed(self) -> bool:
        return self._connection.closed

    def _wrapped(self, error: psycopg.Error) -> BaseException:
        return DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, dialect=DIALECT,
            connection_invalidated=self._connection.closed,
        )  # fmt: skip


# Arrays in Postgres's binary format: encoding them here costs less than the driver's own way. The format is
# that of `array_recv` in Postgres's utils/adt/arrayfuncs.c: dimensions, whether there are nulls, the type of
# the elements; then for the one dimension its length and lower bound; then each element behind its length.
_HEAD: Final = Struct(">iiIii")
_SIZE: Final = Struct(">i")
_NULL: Final = _SIZE.pack(-1)
_SIXTEEN: Final = _SIZE.pack(16)
_NUMBER: Final = Struct(">ii")


class _Array:
    """An encoded array. The driver sends it unchanged."""

    element: ClassVar[int]
    __slots__ = ("data",)

    def __init__(self, parts: Sequence[bytes], *, nulls: bool = False) -> None:
        head = _HEAD.pack(1, nulls, self.element, len(parts), 1)
        empty = _HEAD.pack(0, 0, self.element, 0, 0)[:12]
        self.data = head + b"".join(parts) if parts else empty


class Uuids(_Array):
    """A query parameter of the type uuid[]. An element that is None becomes NULL."""

    element = psycopg.adapters.types["uuid"].oid

    def __init__(self, values: Iterable[UUID | None]) -> None:
        parts = [_NULL if one is None else _SIXTEEN + one.int.to_bytes(16) for one in values]
        super().__init__(parts, nulls=_NULL in parts)


class Integers(_Array):
    """A query parameter of the type int4[]."""

    element = psycopg.adapters.types["int4"].oid

    def __init__(self, values: Iterable[int]) -> None:
        super().__init__([_NUMBER.pack(4, one) for one in values])


class Texts(_Array):
    """A query parameter of the type text[], made of UTF-8 bytes. An element that is None becomes NULL."""

    element = psycopg.adapters.types["text"].oid

    def __init__(self, values: Iterable[bytes | None]) -> None:
        parts = [_NULL if one is None else _SIZE.pack(len(one)) + one for one in values]
        super().__init__(parts, nulls=_NULL in parts)


class _Dumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        data: bytes = obj.data
        return data


for _kind in (Uuids, Integers, Texts):
    _oid = psycopg.adapters.types[_kind.element].array_oid
    psycopg.adapters.register_dumper(_kind, type(f"{_kind.__name__}Dumper", (_Dumper,), {"oid": _oid}))
