"""A connection that explains what it is asked instead of doing it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer
from psycopg.rows import tuple_row
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql import psycopg as dialect

from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA
from callboard.jobs.postgres.sql import in_schema

_DIALECT = dialect.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Access:
    """How a plan reads one table, once."""

    node: str
    index: str | None
    #: Whether the index leads to the rows, rather than being walked from end to end.
    leads: bool
    #: Whether a LIMIT stands above it, so that a walk in order stops early.
    limited: bool


@dataclass(frozen=True)
class Plan:
    """What Postgres would do."""

    tree: Mapping[str, Any]

    def accesses(self, table: str = "jobs") -> list[Access]:
        return [
            Access(
                node["Node Type"],
                node.get("Index Name") or _bitmap_index(node),
                "Index Cond" in node or "Recheck Cond" in node,
                limited,
            )
            for node, limited in _nodes(self.tree)
            if node.get("Relation Name") == table and node["Node Type"] != "ModifyTable"
        ]


class Explaining:
    """Stands for a SQLAlchemy connection in a repository's function; what is executed is explained, and has
    no rows.

    generic: explain the plan that is kept for a prepared statement, whatever its parameters.
    """

    def __init__(self, connection: "psycopg.Connection[Any]", *, generic: bool) -> None:
        self._connection = connection
        self._generic = generic
        self.plans: list[Plan] = []

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None) -> "Nothing":
        compiled = in_schema(str(statement.compile(dialect=_DIALECT)), DEFAULT_SCHEMA)
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            if self._generic:
                # As EXPLAIN (GENERIC_PLAN), which Postgres 14 and 15 do not have. The values have no influence.
                query = PostgresQuery(Transformer(self._connection))
                query.convert(compiled, parameters or {})
                values = ", ".join("NULL" for _ in query.params or ())
                cursor.execute("SET plan_cache_mode = force_generic_plan")
                cursor.execute(b"PREPARE explained AS " + query.query)
                try:
                    cursor.execute(
                        f"EXPLAIN (FORMAT JSON) EXECUTE explained {f'({values})' if values else ''}".encode()
                    )
                    self.plans.append(Plan(cursor.fetchall()[0][0][0]["Plan"]))
                finally:
                    cursor.execute("DEALLOCATE explained")
                    cursor.execute("RESET plan_cache_mode")
            else:
                cursor.execute(("EXPLAIN (FORMAT JSON) " + compiled).encode(), parameters or {})
                self.plans.append(Plan(cursor.fetchall()[0][0][0]["Plan"]))
        return Nothing()


class Nothing:
    """An answer without rows."""

    rowcount = 0

    def all(self) -> list[Any]:
        return []

    def first(self) -> None:
        return None

    def scalars(self) -> "Nothing":
        return self

    def one_or_none(self) -> None:
        return None

    def scalar_one(self) -> int:
        return 0

    def one(self) -> tuple[int, None]:
        return 0, None

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _nodes(node: Mapping[str, Any], *, limited: bool = False) -> Iterator[tuple[Mapping[str, Any], bool]]:
    yield node, limited
    for child in node.get("Plans", ()):
        # A sort reads everything before the limit above it counts.
        inside = node["Node Type"] == "Limit" or (limited and node["Node Type"] not in {"Sort", "Aggregate"})
        yield from _nodes(child, limited=inside)


def _bitmap_index(node: Mapping[str, Any]) -> str | None:
    found = [child.get("Index Name") for child, _ in _nodes(node) if child.get("Index Name")]
    return found[0] if found else None
