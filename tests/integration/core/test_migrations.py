"""The schema's versions, in databases of their own."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from callboard.jobs.errors import InvalidInput, Unavailable
from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA
from callboard.jobs.postgres import migrating
from callboard.jobs.tables import METADATA
from tests.integration.core.factories import at_once, enqueue, own_database

# Everything that a table is made of, as Postgres itself writes it.
CATALOGUE = """
SELECT 'column', format('%s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
    a.attnotnull,
    pg_get_expr(d.adbin, d.adrelid))
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
  WHERE c.relnamespace = 'callboard'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'constraint', format('%s.%s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE connamespace = 'callboard'::regnamespace
UNION ALL SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'callboard'
UNION ALL SELECT 'storage', format('%s %s', relname, reloptions::text)
  FROM pg_class WHERE relnamespace = 'callboard'::regnamespace AND relkind = 'r'
"""
FUNCTIONS = "SELECT proname FROM pg_proc WHERE pronamespace = 'callboard'::regnamespace"


@pytest.fixture
def empty(database_url):
    with own_database(database_url, "versions") as platform:
        yield platform


def catalogue(platform):
    with platform.database.autocommit() as connection:
        return {tuple(row) for row in connection.execute(text(CATALOGUE)) if "alembic_version" not in row[1]}


def functions(platform):
    with platform.database.autocommit() as connection:
        return set(connection.execute(text(FUNCTIONS)).scalars())


def test_the_schema_goes_up_and_down_and_up_again(empty):
    first = empty.migrations.status()
    assert (first.current, first.up_to_date) == (None, False)
    up = empty.migrations.upgrade()
    assert up.up_to_date
    assert up.current == up.needed == first.needed
    whole, made = catalogue(empty), functions(empty)
    assert "enqueue" in made
    down = empty.migrations.downgrade("base")
    assert (down.current, down.up_to_date) == (None, False)
    assert catalogue(empty) == functions(empty) == set()
    assert empty.migrations.upgrade() == up
    assert (catalogue(empty), functions(empty)) == (whole, made)


def test_an_upgrade_of_what_is_up_to_date_keeps_everything(empty):
    up = empty.migrations.upgrade()
    job = enqueue(empty)[0]
    assert empty.migrations.upgrade() == up
    assert empty.jobs.get(job).state == "queued"


def test_each_version_can_be_gone_back_to_alone(empty):
    empty.migrations.upgrade()
    down = empty.migrations.downgrade("0001")
    assert (down.current, down.up_to_date) == ("0001", False)
    assert functions(empty) == set()
    assert empty.migrations.upgrade().up_to_date
    versions: list[str | None] = []
    while not versions or versions[-1] != "0001":
        versions.append(empty.migrations.downgrade("-1").current)
    assert versions[-3:] == ["0003", "0002", "0001"]


def test_the_first_sql_function_comes_back_as_it_was(empty):
    empty.migrations.upgrade()
    empty.migrations.downgrade("0003")
    script = (Path(migrating.__file__).parent / "migrations" / "sql" / "enqueue_v1.sql").read_text()
    with empty.database.transaction() as connection:
        sources = (
            connection.execute(text("SELECT prosrc FROM pg_proc WHERE proname = 'enqueue'")).scalars().all()
        )
        assert len(sources) == 1
        assert sources[0] in script
        call = "SELECT callboard.enqueue('job', '{}', 'queue', unchecked => true)"
        assert connection.execute(text(call)).scalar_one() is not None


def test_alembic_finds_no_difference_between_models_and_migrations(empty):
    empty.migrations.upgrade()
    options = {
        "version_table_schema": DEFAULT_SCHEMA, "include_schemas": True, "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == DEFAULT_SCHEMA,
        # Alembic cannot read an index on an expression back; the next test compares them, word by word.
        "include_object": lambda _object, name, *_: name not in {"jobs_queued", "jobs_keyed"},
    }  # fmt: skip
    with empty.database.autocommit() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []


def test_tables_made_from_the_models_equal_those_made_by_migrations(empty, migrated):
    """With the constraints and storage options, which Alembic does not compare."""
    with empty.database.transaction() as connection:
        connection.execute(text("CREATE SCHEMA callboard"))
        METADATA.create_all(connection)
    assert catalogue(empty) == catalogue(migrated)


def test_upgrades_at_once_come_one_after_the_other(empty):
    outcomes = at_once(2, lambda _: empty.migrations.upgrade())
    assert all(outcome.up_to_date for outcome in outcomes)


@pytest.mark.parametrize("revision", ["9999", "nope", "", "-99", "+1", "0001:0002", "head'; --", "\x00"])
def test_a_version_that_is_none_is_refused_and_nothing_changes(migrated, revision):
    before = migrated.migrations.status()
    with pytest.raises(InvalidInput, match="no schema version"):
        migrated.migrations.downgrade(revision)
    assert migrated.migrations.status() == before


def test_a_database_without_tables_says_how_to_make_them(empty):
    with pytest.raises(Unavailable, match="callboard db upgrade"):
        empty.queues.every()
