"""Alembic's entry point: runs the migrations on the connection that `postgres/migrating.py` passes in."""

from alembic import context

from callboard.jobs.postgres.sql import DEFAULT_SCHEMA
from callboard.jobs.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table_schema=DEFAULT_SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, _: kind != "schema" or name == DEFAULT_SCHEMA,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
