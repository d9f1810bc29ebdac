"""What all tables share: one schema, named constraints, aware times, jsonb."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Interval, MetaData, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, TIMESTAMP
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase

from jobs.states import JobState

SCHEMA: Final = "callboard"

_NAMING: Final = {
    "ix": "%(table_name)s_%(column_0_N_name)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}


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


class Base(DeclarativeBase):
    """The mother of all rows."""

    metadata = MetaData(schema=SCHEMA, naming_convention=_NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to say it
        datetime: TIMESTAMP(timezone=True),
        timedelta: Interval(),
        str: Text(),
        UUID: PG_UUID(as_uuid=True),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
        list[str]: ARRAY(Text()),
        float: REAL(),
    }


NOW: Final = text("now()")
EMPTY_OBJECT: Final = text("'{}'::jsonb")
EMPTY_LIST: Final = text("'[]'::jsonb")
EMPTY_ARRAY: Final = text("'{}'::text[]")
