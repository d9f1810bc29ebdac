"""The schema's versions, in databases of their own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from structlog.testing import capture_logs

from callboard.jobs.errors import Busy, InvalidInput, Unavailable
from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA
from callboard.jobs.postgres import migrating
from callboard.jobs.tables import METADATA
from tests.e2e.stage import until
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


def test_an_upgrade_that_waits_for_a_lock_lets_the_statements_behind_it_pass(empty, monkeypatch):
    monkeypatch.setattr(migrating, "_PAUSES", (0.01, 0.02))
    empty.migrations.upgrade()
    empty.migrations.downgrade("0007")
    read = text("SELECT count(*) FROM callboard.job_types")
    with ThreadPoolExecutor(1) as beside, capture_logs() as logs:
        with empty.database.transaction() as old:
            old.execute(read)
            upgrade = beside.submit(empty.migrations.upgrade)
            until(lambda: any(entry["event"] == "migration.waiting" for entry in logs))
            # the next try of the upgrade waits before this read, and must give way
            for _ in range(3):
                with empty.database.autocommit() as connection:
                    assert connection.execute(read).scalar_one() == 0
            assert not upgrade.done()
        assert upgrade.result().up_to_date


def test_an_upgrade_gives_up_and_says_what_to_do(empty, monkeypatch):
    monkeypatch.setattr(migrating, "_PATIENCE", 0.0)
    empty.migrations.upgrade()
    empty.migrations.downgrade("0007")
    with empty.database.transaction() as old:
        old.execute(text("SELECT count(*) FROM callboard.job_types"))
        with pytest.raises(Busy, match=r"locked a table.*pg_stat_activity.*again"):
            empty.migrations.upgrade()
    assert empty.migrations.upgrade().up_to_date


def test_an_index_is_built_while_others_write(empty):
    empty.migrations.upgrade()
    empty.migrations.downgrade("0007")
    touch = text("LOCK TABLE callboard.schedule_ticks IN ROW EXCLUSIVE MODE")
    building = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'")
    with ThreadPoolExecutor(1) as beside:
        with empty.database.transaction() as old:
            old.execute(touch)
            upgrade = beside.submit(empty.migrations.upgrade)

            def waits():
                with empty.database.autocommit() as connection:
                    return connection.execute(building).scalar_one()

            until(waits)
            with empty.database.transaction() as writer:
                writer.execute(touch)
            assert not upgrade.done()
        assert upgrade.result().up_to_date


def test_what_an_interrupted_index_left_is_replaced(empty):
    empty.migrations.upgrade()
    whole = catalogue(empty)
    empty.migrations.downgrade("0007")
    with empty.database.transaction() as connection:
        connection.execute(text("CREATE INDEX schedule_ticks_decided ON callboard.schedule_ticks (result)"))
    assert empty.migrations.upgrade().up_to_date
    assert catalogue(empty) == whole


def test_a_relative_downgrade_counts_once_however_often_it_is_tried():
    assert [migrating._absolute(step, "0004") for step in ("-1", "-3", "-4", "-5", "0002", "base", "+1")] == [
        "0003", "0001", "base", "-5", "0002", "base", "+1",
    ]  # fmt: skip
    assert migrating._absolute("-1", None) == "-1"


def test_a_failed_upgrade_keeps_the_versions_that_it_reached(empty):
    empty.migrations.upgrade()
    empty.migrations.downgrade("0006")
    with empty.database.transaction() as connection:
        connection.execute(text("ALTER TABLE callboard.job_types ADD COLUMN seen_at int"))
    with pytest.raises(ProgrammingError, match="seen_at"):
        empty.migrations.upgrade()
    assert empty.migrations.status().current == "0007"
