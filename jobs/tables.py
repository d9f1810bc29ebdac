"""Every table of the platform in one `MetaData`, for the migrations and their tests."""

from typing import Final

from sqlalchemy import MetaData

from callboard.jobs.access import tables as access_tables
from callboard.jobs.attempts import tables as attempts_tables
from callboard.jobs.counters import tables as counters_tables
from callboard.jobs.definitions import tables as definitions_tables
from callboard.jobs.enqueue import tables as enqueue_tables
from callboard.jobs.idempotency import tables as idempotency_tables
from callboard.jobs.limits import tables as limits_tables
from callboard.jobs.operate import tables as operate_tables
from callboard.jobs.postgres.table_base import Base
from callboard.jobs.schedules import tables as schedules_tables
from callboard.jobs.webhooks import tables as webhooks_tables

#: Importing these modules adds their tables to the metadata.
MODULES: Final = (
    access_tables, attempts_tables, counters_tables, definitions_tables, enqueue_tables, idempotency_tables,
    limits_tables, operate_tables, schedules_tables, webhooks_tables,
)  # fmt: skip
METADATA: Final[MetaData] = Base.metadata


def metadata_in(schema: str) -> MetaData:
    """Return the same tables in a schema of this name."""
    if schema == METADATA.schema:
        return METADATA
    copy = MetaData(schema=schema, naming_convention=METADATA.naming_convention)
    for table in METADATA.sorted_tables:
        table.to_metadata(copy, schema=schema)
    return copy
