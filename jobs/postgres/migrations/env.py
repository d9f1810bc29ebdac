"""Alembic's entry point: runs the migrations on the connection that `postgres/migrating.py` passes in.

How to write a migration: name the schema by SCHEMA of `callboard.jobs.postgres.sql`, in `op.*` calls
(`schema=SCHEMA`) and in SQL texts (f"UPDATE {SCHEMA}.jobs ..."). The connection replaces SCHEMA by the
schema's name.

Processes of the version before run meanwhile, and afterwards. See "Which versions run together" in
docs/how-to/upgrade.md. So a migration

- only adds: tables, columns with a default, indexes, functions with other arguments;
- holds its locks for milliseconds: indexes by `create_index` of indexes.py, constraints by NOT VALID, and
  VALIDATE in a later migration;
- is short, because each one is a transaction. It is repeated when it does not get a lock within a second.
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
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
