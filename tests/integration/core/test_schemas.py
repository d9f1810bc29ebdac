"""Two applications in one database and one Redis, each in a schema of its own."""

from contextlib import ExitStack, closing
from urllib.parse import parse_qsl

import psycopg
import pytest
import redis
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from structlog.testing import capture_logs

from callboard.jobs.client import Client
from callboard.jobs.errors import Conflict, NotFound, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.health import HealthChecks
from callboard.jobs.operate.repository import diagnosing
from callboard.jobs.platform import Platform
from callboard.jobs.postgres import locks, notices
from callboard.jobs.postgres.sql import SCHEMA, in_schema
from callboard.jobs.redis.queue_tokens import read_token
from callboard.jobs.tables import METADATA, metadata_in
from callboard.scheduler.feeder import Feeder
from tests.integration.core.factories import at_once, execution, own_database, until, url_of

#: What version 0.1 locks, in its one schema.
LEADER_OF_0_1 = 0x63616C6C01
MIGRATION_OF_0_1 = 0x63616C6C62

CATALOGUE = f"""
SELECT 'table', tablename::text FROM pg_tables WHERE schemaname = '{SCHEMA}'
UNION ALL SELECT 'column', format('%s.%s %s %s', table_name, column_name, data_type, column_default)
  FROM information_schema.columns WHERE table_schema = '{SCHEMA}'
UNION ALL SELECT 'constraint', format('%s %s', conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE connamespace = '{SCHEMA}'::regnamespace
UNION ALL SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = '{SCHEMA}'
UNION ALL SELECT 'function', pg_get_functiondef(oid)
  FROM pg_proc WHERE pronamespace = '{SCHEMA}'::regnamespace
"""


@pytest.fixture
def database(database_url):
    with own_database(database_url, "schemas") as platform:
        yield url_of(platform)


@pytest.fixture
def platforms(database, redis_url):
    """The services of the application `callboard` and of the application `other`, without tables."""
    with redis.Redis.from_url(redis_url) as client, ExitStack() as opened:
        client.flushdb()
        yield [
            opened.enter_context(closing(Platform(database, redis_url, schema=name)))
            for name in ("callboard", "other")
        ]


@pytest.fixture
def both(platforms):
    """The same, migrated."""
    for platform in platforms:
        platform.migrations.upgrade()
    return platforms


def catalogue(platform):
    """What the schema is made of, with SCHEMA for its name."""
    name = platform.database.schema
    with platform.database.transaction() as connection:
        # Postgres leaves out the name of a schema that is on the path.
        connection.execute(text("SET LOCAL search_path = ''"))
        found = connection.execute(text(CATALOGUE)).all()
    return {
        (row[0], row[1].replace(f"{name}.", f"{SCHEMA}.").replace(f"'{name}_", f"'{SCHEMA}_"))
        for row in found
    }


def enqueue(platform, **options):
    request = {"queue": "reports", "unchecked": True} | options
    return Client.over(platform).enqueue("build_report", {"account_id": 7}, **request)


def held_locks(connection):
    """The keys of the advisory locks that this connection holds."""
    found = connection.execute(
        text(
            "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks"
            " WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
    )
    return set(found.scalars())


def test_migrations_make_the_same_tables_and_functions_in_any_schema(both):
    default, other = both
    assert catalogue(default) == catalogue(other)
    assert len(catalogue(other)) > 200
    assert "callboard." not in str(catalogue(other))
    assert default.migrations.status() == other.migrations.status()


def test_a_schema_of_another_name_goes_up_and_down_and_up_again(platforms):
    other = platforms[1]
    assert other.migrations.upgrade().up_to_date
    whole = catalogue(other)
    versions = []
    while not versions or versions[-1] is not None:
        versions.append(other.migrations.downgrade("-1").current)
    assert versions[-4:] == ["0003", "0002", "0001", None]
    assert {row for row in catalogue(other) if "alembic_version" not in row[1]} == set()
    assert other.migrations.upgrade().up_to_date
    assert catalogue(other) == whole


def test_alembic_finds_no_difference_in_a_schema_of_another_name(both):
    options = {
        "version_table_schema": "other", "include_schemas": True, "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == "other",
        # Alembic cannot read an index on an expression back.
        "include_object": lambda _object, name, *_: name not in {"jobs_queued", "jobs_keyed"},
    }  # fmt: skip
    with both[1].database.autocommit() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata_in("other")) == []


def test_the_tables_in_another_schema_are_the_same_tables():
    assert metadata_in("callboard") is METADATA
    other = metadata_in("other")
    assert [table.name for table in other.sorted_tables] == [table.name for table in METADATA.sorted_tables]
    assert {table.schema for table in other.tables.values()} == {"other"}
    assert {key.column.table.schema for table in other.tables.values() for key in table.foreign_keys} == {
        "other"
    }


def test_two_schemas_migrate_at_once(platforms):
    outcomes = at_once(4, lambda number: platforms[number % 2].migrations.upgrade())
    assert all(outcome.up_to_date for outcome in outcomes)


def test_a_downgrade_to_base_leaves_the_other_schema_alone(both):
    default, other = both
    job, before = enqueue(other).id, catalogue(other)
    default.migrations.downgrade("base")
    assert catalogue(other) == before
    assert other.jobs.get(job).state is JobState.QUEUED
    with pytest.raises(Unavailable, match="callboard db upgrade"):
        default.queues.every()
    other.migrations.downgrade("base")
    with pytest.raises(Unavailable, match="callboard db upgrade"):
        other.queues.every()


def test_jobs_and_unique_keys_of_one_schema_do_not_exist_in_the_other(both):
    jobs = [enqueue(platform, unique_key="r-7", on_conflict="reject") for platform in both]
    for platform, own, foreign in zip(both, jobs, reversed(jobs), strict=True):
        assert platform.jobs.get(own.id).unique_key == "r-7"
        with pytest.raises(NotFound):
            platform.jobs.get(foreign.id)
        with pytest.raises(Conflict):
            enqueue(platform, unique_key="r-7", on_conflict="reject")


def test_cancelling_and_purging_in_one_schema_leaves_the_other_alone(both):
    default, other = both
    kept = [enqueue(other).id for _ in range(3)]
    cancelled = enqueue(default).id
    Client.over(default).cancel(cancelled)
    for _ in range(2):
        enqueue(default)
    default.queues.purge("reports")
    default.queues.pause("reports")
    Client.over(default).bulk("delete", state="cancelled")
    assert [str(other.jobs.get(job).state) for job in kept] == ["queued"] * 3
    assert other.transport.depth("reports") == 3
    assert other.queues.get("reports").paused_at is None


def test_tokens_of_each_schema_lie_under_its_own_redis_keys(both, redis_url):
    for platform, number in zip(both, (2, 3), strict=True):
        for _ in range(number):
            enqueue(platform)
    assert [platform.transport.depth("reports") for platform in both] == [2, 3]
    for platform in both:
        platform.transport.check()
    with redis.Redis.from_url(redis_url) as client:
        keys = {key.decode() for key in client.scan_iter()}
    assert {"callboard:queue:reports", "other:queue:reports", "other:check"} <= keys
    assert {key.partition(":")[0] for key in keys} == {"callboard", "other"}
    both[0].transport.forget("reports")
    assert [platform.transport.depth("reports") for platform in both] == [0, 3]


def test_who_waits_in_one_schema_hears_nothing_of_the_other(both):
    default, other = both
    announcements = other.transport.announcements()
    with closing(announcements):
        until(other.transport.listened_to)
        assert not default.transport.listened_to()


def test_notices_of_one_schema_do_not_reach_the_other(both, database):
    plain = database.replace("+psycopg", "")
    with ExitStack() as opened:
        heard = []
        for platform in both:
            connection = opened.enter_context(platform.database.autocommit())
            notices.listen(connection)
            heard.append(connection)
        with psycopg.connect(plain, autocommit=True) as caller:
            caller.execute("SELECT other.enqueue('build_report', '{}', queue => 'sql', unchecked => true)")
        with both[1].database.transaction() as connection:
            notices.queued(connection, ["python"])
        assert notices.heard(heard[1], 10.0) | notices.heard(heard[1], 0.5) == {"sql", "python"}
        assert notices.heard(heard[0], 0.2) == set()
        for connection in heard:
            connection.invalidate()


def test_the_sql_function_of_each_schema_enqueues_into_its_own_tables(both, database):
    with psycopg.connect(database.replace("+psycopg", "")) as caller:
        jobs = [
            caller.execute(f"SELECT {name}.enqueue('build_report', '{{}}', unchecked => true)").fetchone()[0]
            for name in ("callboard", "other")
        ]
    for platform, own, foreign in zip(both, jobs, reversed(jobs), strict=True):
        assert platform.jobs.get(own).source == "sql"
        with pytest.raises(NotFound):
            platform.jobs.get(foreign)


def test_an_enqueue_in_the_callers_own_transaction_goes_to_the_clients_schema(both, database):
    other = Client.over(both[1])
    with psycopg.connect(database.replace("+psycopg", "")) as caller:
        job = other.enqueue("build_report", connection=caller, unchecked=True)
    assert other.get(job.id).state is JobState.QUEUED
    with pytest.raises(NotFound):
        both[0].jobs.get(job.id)


def test_each_schema_has_a_leader_of_its_own(both):
    with ExitStack() as opened:
        connections = [opened.enter_context(platform.database.autocommit()) for platform in both]
        for connection in connections:
            assert not diagnosing.has_leader(connection)
            assert locks.try_lock(connection, locks.LEADER)
            assert diagnosing.has_leader(connection)
        for platform in both:
            with platform.database.autocommit() as standby:
                assert not locks.try_lock(standby, locks.LEADER)
        connections[0].invalidate()
        with both[0].database.autocommit() as connection:
            until(lambda: not diagnosing.has_leader(connection))
        assert diagnosing.has_leader(connections[1])
        connections[1].invalidate()


def test_the_default_schema_locks_what_version_0_1_locks(platforms):
    keys = []
    for platform in platforms:
        with platform.database.transaction() as connection:
            assert locks.try_lock(connection, locks.LEADER)
            assert locks.try_lock_transaction(connection, locks.MIGRATION)
            keys.append(held_locks(connection))
    assert keys[0] == {LEADER_OF_0_1, MIGRATION_OF_0_1}
    assert len(keys[1]) == 2
    assert keys[0] & keys[1] == set()


def test_the_keys_of_every_lock_follow_from_the_schemas_name(platforms):
    names = ["callboard", "other", "another", "a_name_of_forty_letters_which_is_the_mos"]
    with platforms[0].database.autocommit() as connection:
        keys = [
            connection.execute(text(f"SELECT {in_schema(key, name)}")).scalar_one()
            for name in names
            for key in (locks.LEADER, locks.MIGRATION)
        ]
    assert keys[:2] == [LEADER_OF_0_1, MIGRATION_OF_0_1]
    assert len(set(keys)) == 2 * len(names)


# ---- the same schema name in two databases that share a Redis ----


@pytest.fixture
def namesakes(database_url, redis_url):
    """The databases of two applications that have the same schema name."""
    with (
        redis.Redis.from_url(redis_url) as client,
        own_database(database_url, "shop") as shop,
        own_database(database_url, "mail") as mail,
    ):
        client.flushdb()
        for one in (shop, mail):
            one.migrations.upgrade()
        yield url_of(shop), url_of(mail)
        client.flushdb()


def test_namesakes_in_two_redis_databases_share_nothing(namesakes, redis_url):
    base, _, query = redis_url.partition("?")
    number = int(dict(parse_qsl(query)).get("db", 0))
    other_url = f"{base}?db={number + 32}"
    with (
        closing(Platform(namesakes[0], redis_url)) as shop,
        closing(Platform(namesakes[1], other_url)) as mail,
        closing(shop.transport.announcements()) as heard,
    ):
        until(shop.transport.listened_to)
        assert not mail.transport.listened_to()
        enqueue(mail, queue="same")
        assert [one.transport.depth("same") for one in (shop, mail)] == [0, 1]
        mail.transport.announce([new_id()])
        assert heard.next(0.2) == set()
        assert shop.key_sharing.mark() == mail.key_sharing.mark() == []
        with redis.Redis.from_url(other_url) as client:
            client.flushdb()


def test_namesakes_that_share_keys_run_their_own_jobs_and_are_told_of_each_other(namesakes, redis_url):
    with (
        closing(Platform(namesakes[0], redis_url)) as shop,
        closing(Platform(namesakes[1], redis_url)) as mail,
        capture_logs() as log,
    ):
        job = enqueue(mail, queue="same").id
        with execution(shop) as worker:
            tokens = [read_token(raw) for raw in shop.transport.pop(["same"], 9, 0.1)]
            assert worker.claim(tokens) == []
        # The job's token is gone; the feeder adds it again.
        assert Feeder(mail, SYSTEM).round() == 1
        with execution(mail) as worker:
            tokens = [read_token(raw) for raw in mail.transport.pop(["same"], 9, 0.1)]
            assert [each.id for each in worker.claim(tokens)] == [job]
        assert shop.key_sharing.mark() == []
        for _ in range(3):
            [of_shop] = mail.key_sharing.mark()
            [of_mail] = shop.key_sharing.mark()
        assert (of_shop.endswith("_shop"), of_mail.endswith("_mail")) == (True, True)
        told = [one["databases"] for one in log if one["event"] == "redis.keys_shared"]
        assert told == [[of_shop], [of_mail]]
        checks = HealthChecks(shop.database, redis_url, shop.migrations).checks()
        [check] = [each for each in checks if each.name == "redis"]
        assert check.status == "warn"
        assert of_mail in check.message
        assert of_shop not in check.message
