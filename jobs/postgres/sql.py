"""What all tables share: one schema, named constraints, aware times, jsonb."""

import re
from collections.abc import Iterable
from typing import Any, Final

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import JobState

#: Stands for the schema in every statement of this code base. A connection puts its own schema's name in its place.
SCHEMA: Final = "__schema__"
DEFAULT_SCHEMA: Final = "callboard"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")


def check_schema(name: str) -> str:
    """Return the name if it can be a schema's; InvalidInput says what can be.

    Lower-case letters, digits and underscores need no quotes, so the name reads the same in SQL, in the names of
    channels and in Redis keys. `pg_` is Postgres's own prefix.
    """
    if not _NAME.fullmatch(name) or name.startswith("pg_"):
        raise InvalidInput(
            f"{name[:60]!r} cannot be the schema: use up to 40 lower-case letters, digits and '_', no digit first",
            fields={"schema": "up to 40 of a-z, 0-9 and _"},
        )
    return name


def in_schema(statement: str, schema: str) -> str:
    """The statement with the schema's name in place of SCHEMA."""
    return statement.replace(SCHEMA, schema)


def by_id(id_: str) -> str:
    """That job `j` has this id, for a join that can do nothing but look each row up.

    By `=` it could also be turned round: walk the whole table by its key, and find each row's partner. That is what
    Postgres plans while its statistics say that the table is empty, and then goes on to do with a backlog of a million.
    """
    return f"j.id = ANY (ARRAY[{id_}])"


def in_states(states: frozenset[JobState]) -> str:
    """A SQL condition on `state`, its values in the order of JobState."""
    return "state IN (" + ", ".join(f"'{state}'" for state in JobState if state in states) + ")"


#: The order within a queue: when a job became due, each step of priority worth ten minutes of waiting. Immutable, as an
#: index needs it, and written as Postgres writes it back.
URGENCY: Final = (
    "(run_at - '2020-01-01 00:00:00+00'::timestamp with time zone)"
    " + ((priority)::double precision * '00:10:00'::interval)"
)

# The limited queues are few and have an index of their own: read once for a statement, not for each row.
HINT: Final = (
    "j.id, j.epoch, j.queue, j.priority, j.run_at,"
    f" j.queue IN (SELECT q.name FROM {SCHEMA}.queues q WHERE q.limited) AS limited"
)


def _hints(rows: Iterable[Any]) -> list[Hint]:
    return [Hint(*row) for row in rows]
