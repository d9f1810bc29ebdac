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


#: The common table expression `busy`: by worker and queue, how many jobs the worker holds (`held`, exact) and
#: how many of them have begun (`running`). The jobs that had begun at the supervisor's last look may have
#: ended since, and others taken their place: their number is what counts. Where nobody looked, all count as
#: begun.
BUSY: Final = f"""busy AS MATERIALIZED (
  SELECT f.worker_id, f.queue, f.held,
    CASE WHEN w.begun IS NULL THEN f.held ELSE least(f.held, f.begun) END AS running
  FROM (
    SELECT each.worker_id, each.queue, sum(each.held) AS held, sum(each.begun) AS begun FROM (
      SELECT j.worker_id, j.queue, 1 AS held, 0 AS begun FROM {SCHEMA}.jobs j WHERE j.state = 'running'
      UNION ALL
      SELECT w.id, j.queue, 0, 1
      FROM {SCHEMA}.workers w CROSS JOIN LATERAL unnest(w.begun) AS b(id)
      JOIN {SCHEMA}.jobs j ON {by_id("b.id")}
    ) AS each GROUP BY 1, 2
  ) AS f LEFT JOIN {SCHEMA}.workers w ON w.id = f.worker_id
  WHERE f.held > 0
)"""


def in_states(states: frozenset[JobState]) -> str:
    """Return the condition that `state` is one of these, in the order of JobState."""
    return "state IN (" + ", ".join(f"'{state}'" for state in JobState if state in states) + ")"


#: The live versions `v`: name and schema, without schemas that were changed by hand and cannot be used.
#: Conditions on names are added. It is for a materialized query, because ACCEPTS fails on other schemas.
_IS: Final = "jsonb_typeof(coalesce(v.schema -> '{}', '{}')) = '{}'"
LIVE_VERSIONS: Final = (
    f"SELECT v.name, v.schema FROM {SCHEMA}.job_version_status v WHERE v.is_live"
    f" AND {_IS.format('properties', '{}', 'object')}"
    f" AND {_IS.format('required', '[]', 'array')} AND {_IS.format('x-parameters', '[]', 'array')}"
)
#: Whether the live version `v` accepts the arguments of the job `j`, by their names and simple types.
ACCEPTS: Final = f"""(
  (jsonb_array_length(j.args) <= jsonb_array_length(coalesce(v.schema -> 'x-parameters', '[]'))
    OR v.schema -> 'x-var-positional' = 'true')
  AND {SCHEMA}.refusal(j.name, v.schema, j.kwargs || (
    SELECT coalesce(jsonb_object_agg(p.name, a.value), '{{}}')
    FROM jsonb_array_elements_text(coalesce(v.schema -> 'x-parameters', '[]')) WITH ORDINALITY AS p(name, n)
    JOIN jsonb_array_elements(j.args) WITH ORDINALITY AS a(value, n) ON a.n = p.n)) IS NULL)"""

#: The order within a queue: by due time, where each step of priority counts as ten minutes. The expression is
#: immutable, because an index needs that, and written as Postgres prints it.
URGENCY: Final = (
    "(run_at - '2020-01-01 00:00:00+00'::timestamp with time zone)"
    " + ((priority)::double precision * '00:10:00'::interval)"
)

# Limited queues are few and have their own index. Postgres reads them once for each statement.
HINT: Final = columns(Hint, "j", limited=f"j.queue IN (SELECT q.name FROM {SCHEMA}.queues q WHERE q.limited)")
#: The select list of FeedTokens, over rows `j` of jobs. The place of a token is its score in Redis: run_at in
#: milliseconds, where each step of priority counts as ten minutes. An infinite time has no number, so the
#: years are bounded.
FEED_TOKENS: Final = """count(*), coalesce(string_agg((j.priority * 600000::bigint + floor(1000 * extract(
  epoch FROM least(greatest(j.run_at, '0002-01-01 00:00:00+00'), '9998-12-31 00:00:00+00')))::bigint)
  || ' ' || j.id || ':' || j.epoch, ' '), '')"""
#: The columns of jobs that FEED_TOKENS reads.
FED_COLUMNS: Final = "j.id, j.epoch, j.priority, j.run_at"


def hints_of(rows: Iterable[Any]) -> list[Hint]:
    """Return the hints in rows whose select list is HINT."""
    return [Hint(*row) for row in rows]
