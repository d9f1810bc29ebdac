"""Parts of SQL statements that several subjects share: schema, column lists, conditions, order."""

from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from typing import Any, Final

from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql import psycopg as dialect

from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import JobState

#: Stands for the schema in every statement of this code base. A connection replaces it by its schema's name.
SCHEMA: Final = "__schema__"
#: The next epoch of the job `j`. A job whose epoch was set to the largest integer by hand must not fail the
#: statement, which is about other jobs as well.
NEXT_EPOCH: Final = "least(j.epoch, 2147483646) + 1"
#: How SQLAlchemy writes statements for the driver.
DIALECT: Final = dialect.dialect()  # type: ignore[no-untyped-call]


def in_schema(statement: str, schema: str) -> str:
    """Return the statement with the schema's name in place of SCHEMA."""
    return statement.replace(SCHEMA, schema)


@cache
def compiled(statement: TextClause, schema: str) -> bytes:
    """Return the statement as the driver takes it, with the schema's name."""
    return in_schema(str(statement.compile(dialect=DIALECT)), schema).encode()


def columns(value: type[Any], alias: str = "", /, **expressions: str) -> str:
    """Return the select list of a value class: one column for each field, in the order of the fields.

    value:       a dataclass or a NamedTuple whose field names are column names.
    alias:       the table's alias in the statement; every plain column is written as `alias.name`.
    expressions: the SQL of a field that is not a plain column, by field name: `version="xmin::text"`.

    `Value(*row)` is safe on such a list: the list and the constructor cannot differ in order.
    """
    names = value._fields if hasattr(value, "_fields") else [field.name for field in fields(value)]
    unknown = expressions.keys() - set(names)
    if unknown:
        raise TypeError(f"{value.__name__} has no field {min(unknown)!r}")
    prefix = f"{alias}." if alias else ""
    return ", ".join(
        f"{expressions[name]} AS {name}" if name in expressions else f"{prefix}{name}" for name in names
    )


def by_id(id_: str) -> str:
    """Return the condition that job `j` has this id, for a join that looks up each row by its id.

    With `=`, Postgres may read the whole table in the order of its key instead. It plans that while its
    statistics say that the table is empty, and keeps the plan when a million jobs are queued.
    """
    return f"j.id = ANY (ARRAY[{id_}])"


def outside_years(column: str) -> str:
    """Return the condition that a time is infinite, or outside the years 1 to 9999 that Python can hold."""
    return f"({column} < '0001-01-01 00:00:00+00' OR {column} >= '10000-01-01 00:00:00+00')"


def in_states(states: frozenset[JobState]) -> str:
    """Return the condition that `state` is one of these, in the order of JobState."""
    return "state IN (" + ", ".join(f"'{state}'" for state in JobState if state in states) + ")"


#: The order within a queue: by due time, where each step of priority counts as ten minutes. The expression is
#: immutable, because an index needs that, and written as Postgres prints it.
URGENCY: Final = (
    "(run_at - '2020-01-01 00:00:00+00'::timestamp with time zone)"
    " + ((priority)::double precision * '00:10:00'::interval)"
)

# Limited queues are few and have their own index. Postgres reads them once for each statement.
HINT: Final = columns(Hint, "j", limited=f"j.queue IN (SELECT q.name FROM {SCHEMA}.queues q WHERE q.limited)")
#: The select list of a FeedRow. An infinite time has no number, so the years are bounded.
FEED_ROW: Final = """j.id::text, j.epoch, j.priority, floor(1000 * extract(epoch FROM
  least(greatest(j.run_at, '0002-01-01 00:00:00+00'), '9998-12-31 00:00:00+00')))::bigint"""


def hints_of(rows: Iterable[Any]) -> list[Hint]:
    """Return the hints in rows whose select list is HINT."""
    return [Hint(*row) for row in rows]
