"""Write through asyncpg, directly or below SQLAlchemy.

asyncpg numbers its placeholders, takes values of exactly the server's types, and reads and writes JSON as the
connection's codecs say. So each JSON value is cast: it goes and comes as text, whatever codec is set.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from sqlalchemy import Connection, TextClause
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.util import await_only

from callboard.jobs.model.basics.stored_json import readable
from callboard.jobs.postgres.callers.kinds import AsyncpgConnection
from callboard.jobs.postgres.callers.lent_refusals import Explaining, refused
from callboard.jobs.postgres.rows.binary_arrays import Texts, Uuids
from callboard.jobs.postgres.sql import in_schema

_DIALECT: Final = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
_JSONB: Final = "jsonb"
#: The other types of a job's columns, with their numbers in Postgres.
_TYPES: Final = {
    "bool": 16, "int8": 20, "int2": 21, "int4": 23, "text": 25, "timestamptz": 1184, "interval": 1186,
    "uuid": 2950,
}  # fmt: skip
#: How many statements are kept with their numbered form.
_MOST_STATEMENTS: Final = 200


class _Numbered(NamedTuple):
    """A statement with numbered placeholders, and the names of their parameters."""

    text: str
    names: Sequence[str]
    #: Whether it only reads. Then it can be part of another statement.
    reads: bool


class _Reading(NamedTuple):
    """A SELECT whose JSON columns are texts, and the places of these columns."""

    text: str
    json_at: frozenset[int]


#: By the text of the numbered statement. The tables decide which columns are JSON.
_readings: Final[dict[str, _Reading]] = {}


class AsyncpgRows:
    """Rows that have been read."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows
        self.rowcount = len(rows)

    def all(self) -> list[Any]:
        return self._rows

    def first(self) -> Any:
        return self._rows[0] if self._rows else None

    def one_or_none(self) -> Any:
        return self.first()

    def scalar_one(self) -> Any:
        return self._rows[0][0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


class LentAsyncpg(Explaining):
    """A connection of asyncpg. Its statements run inside SQLAlchemy's `greenlet_spawn`.

    through: the SQLAlchemy connection that has it. Its next statement may begin a transaction.
    Errors are those of the library whose connection the caller lent.
    """

    def __init__(self, driver: AsyncpgConnection, schema: str, *, through: Connection | None = None) -> None:
        self._driver = driver
        self._schema = schema
        self._through = through

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None, /) -> AsyncpgRows:
        numbered = _numbered(statement, self._schema)
        values = [_plain((parameters or {})[name]) for name in numbered.names]
        reading = self._reading(numbered.text) if numbered.reads else _Reading(numbered.text, frozenset())
        rows = self._fetch(reading.text, values)
        return AsyncpgRows([_converted(row, reading.json_at) for row in rows])

    @property
    def is_open(self) -> bool:
        if self._through is None:
            return self._driver.is_in_transaction()
        return not cast("Any", self._through.connection.dbapi_connection).autocommit

    def _fetch(self, query: str, values: list[Any]) -> Sequence[Any]:
        if self._through is None:
            return cast("Sequence[Any]", await_only(self._driver.fetch(query, *values)))
        result = self._through.exec_driver_sql(query, tuple(values))
        return result.all() if result.returns_rows else []

    def _reading(self, query: str) -> _Reading:
        known = _readings.get(query)
        if known is None:
            attributes = await_only(self._driver.prepare(query)).get_attributes()
            known = _readings[query] = _as_texts(query, [(one.name, one.type.name) for one in attributes])
        return known


def check_asyncpg(driver: AsyncpgConnection) -> None:
    """Raise InvalidInput unless this connection can be written through.

    It must be open and use UTF-8, and the driver's own codecs for the types of a job's columns but JSON.
    """
    # asyncpg is optional. Here the caller has it.
    from asyncpg import InterfaceError

    try:
        closed = driver.is_closed()
    except InterfaceError as error:
        raise refused(f"asyncpg says: {error}", is_async=True) from error
    if closed:
        raise refused("it is closed", is_async=True)
    settings = driver.get_settings()
    encoding = settings.client_encoding
    if encoding.upper().replace("-", "") != "UTF8":
        raise refused(f"its client_encoding is {encoding}, and jobs are written in UTF-8", is_async=True)
    for name, oid in _TYPES.items():
        if settings.get_data_codec(oid) is not settings.get_data_codec(oid, ignore_custom_codec=True):
            raise refused(
                f"it has a codec of its own for the type {name}; reset_type_codec({name!r},"
                " schema='pg_catalog') removes it",
                is_async=True,
            )


@lru_cache(_MOST_STATEMENTS)
def _numbered(statement: TextClause, schema: str) -> _Numbered:
    compiled = statement.compile(dialect=_DIALECT)
    text = in_schema(str(compiled), schema)
    names = list(compiled.positiontup or ())
    for number in range(1, len(names) + 1):
        # A codec of the program may write JSON, and would write ours as a JSON text.
        text = text.replace(f"CAST(${number} AS jsonb)", f"CAST(CAST(${number} AS text) AS jsonb)")
    return _Numbered(text, names, reads=text.lstrip().startswith("SELECT"))


def _as_texts(query: str, columns: Sequence[tuple[str, str]]) -> _Reading:
    json_at = frozenset(place for place, (_, kind) in enumerate(columns) if kind == _JSONB)
    if not json_at:
        return _Reading(query, json_at)
    selected = ", ".join(
        f'CAST(r."{name}" AS text) AS "{name}"' if place in json_at else f'r."{name}"'
        for place, (name, _) in enumerate(columns)
    )
    return _Reading(f"SELECT {selected} FROM ({query}) AS r", json_at)


def _plain(value: object) -> object:
    if isinstance(value, Texts):
        return [None if one is None else one.decode() for one in value.values]
    return list(value.values) if isinstance(value, Uuids) else value


def _converted(row: Any, json_at: frozenset[int]) -> tuple[Any, ...]:
    return tuple(
        (None if value is None else readable(value))
        if place in json_at
        # asyncpg has a class of its own for UUIDs.
        else (UUID(int=value.int) if isinstance(value, UUID) else value)
        for place, value in enumerate(row)
    )
