"""The base of all tables: the schema, the names of constraints, the column types, common defaults."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Interval, MetaData, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, TIMESTAMP
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase

from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA

_NAMING: Final = {
    "ix": "%(table_name)s_%(column_0_N_name)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}


class Base(DeclarativeBase):
    """The base class of all row classes. Times are timezone-aware; JSON is jsonb."""

    metadata = MetaData(schema=DEFAULT_SCHEMA, naming_convention=_NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy expects a plain dict
        datetime: TIMESTAMP(timezone=True),
        timedelta: Interval(),
        str: Text(),
        UUID: PG_UUID(as_uuid=True),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
        list[str]: ARRAY(Text()),
        list[UUID]: ARRAY(PG_UUID(as_uuid=True)),
        float: REAL(),
    }


#: The times that Python can hold: of the years 1 to 9999.
FIRST_TIME: Final = "'0001-01-01 00:00:00+00'::timestamptz"
END_OF_TIMES: Final = "'10000-01-01 00:00:00+00'::timestamptz"

NOW: Final = text("now()")
EMPTY_OBJECT: Final = text("'{}'::jsonb")
EMPTY_LIST: Final = text("'[]'::jsonb")
EMPTY_ARRAY: Final = text("'{}'::text[]")
