"""Alembic's entry point: runs the migrations on the connection that `postgres/migrating.py` passes in.

How to write a migration: name the schema by SCHEMA of `callboard.jobs.postgres.sql`, in `op.*` calls
(`schema=SCHEMA`) and in SQL texts (f"UPDATE {SCHEMA}.jobs ..."). The connection replaces SCHEMA by the
schema's name.
"""

from alembic import context

from callboard.jobs.tables import metadata_in

_schema = context.config.attributes["schema"]

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata_in(_schema),
    version_table_schema=_schema,
    include_schemas=True,
    include_name=lambda name, kind, _: kind != "schema" or name == _schema,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
