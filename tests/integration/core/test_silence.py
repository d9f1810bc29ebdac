"""A Postgres that falls silent: its connections stay open, and nothing comes back."""

import os
import signal
import time
from contextlib import closing, contextmanager
from threading import Event, Thread

import psycopg
import pytest
from sqlalchemy import text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.model.request import job_request
from callboard.jobs.platform import Platform
from callboard.jobs.postgres import locks
from callboard.jobs.postgres.database import Database, driver_of
from callboard.jobs.postgres.leadership import Leadership
from callboard.jobs.postgres.listening import listening
from tests.e2e.stage import own_servers
from tests.integration.core.factories import NOWHERE, enqueue_one, publish, until
from tests.silent_postgres import silent_postgres

#: The limit for an answer in these tests. Seconds.
ANSWER = 0.5
ONE = text("SELECT 1")


@pytest.fixture
def proxy(platform, database_url):
    with silent_postgres(database_url) as made:
        yield made


@pytest.fixture
def database(proxy):
    with closing(Database(sqlalchemy_url(proxy.url))) as made:
        made.limits.answer = ANSWER
        yield made


@contextmanager
def refused_in_time():
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no answer within"):
        yield
    assert ANSWER <= time.monotonic() - began < ANSWER + 5


def in_autocommit(database):
    with database.autocommit() as connection:
        return connection.execute(ONE).scalar_one()


def in_a_transaction(database):
    with database.transaction() as connection:
        return connection.execute(ONE).scalar_one()


def repeatedly(database):
    return database.retrying(lambda connection: connection.execute(ONE).scalar_one())


@pytest.mark.parametrize("ask", [in_autocommit, in_a_transaction, repeatedly])
def test_a_pooled_connection_waits_no_longer_than_the_limit(proxy, database, ask):
    assert ask(database) == 1
    proxy.hush(new=False)
    with refused_in_time():
        ask(database)
    # The dead connections are gone, so the next use opens one that works.
    assert ask(database) == 1


@pytest.mark.parametrize("use", ["run", "transaction"])
def test_a_kept_connection_waits_no_longer_than_the_limit(proxy, database, use):
    kept = database.kept("claim")
    ask = getattr(kept, use)
    assert ask(lambda statements: statements.execute(ONE).scalar_one()) == 1
    proxy.hush(new=False)
    with refused_in_time():
        ask(lambda statements: statements.execute(ONE).scalar_one())
    assert ask(lambda statements: statements.execute(ONE).scalar_one()) == 1
    kept.close()


def test_a_commit_waits_no_longer_than_the_limit(proxy, database):
    with refused_in_time(), database.transaction() as connection:
        connection.execute(ONE)
        proxy.hush(new=False)


def test_a_leader_notices_that_its_lock_is_out_of_reach(proxy, database, monkeypatch):
    monkeypatch.setattr("callboard.jobs.postgres.leadership._ANSWER_WITHIN", ANSWER)
    leadership = Leadership(database)
    assert leadership.take()
    proxy.hush(new=False)
    with refused_in_time():
        leadership.ask(locks.check)
    assert not leadership.is_connected
    leadership.release()


def test_a_leader_that_is_cut_off_loses_its_lock(proxy, database, monkeypatch):
    """Also if something on the way keeps its connection to Postgres open, so that no keepalive fails."""
    monkeypatch.setattr("callboard.jobs.postgres.leadership._IDLE_AT_MOST", "500ms")
    leader, standby = Leadership(database), Leadership(database)
    assert leader.take()
    assert not standby.take()
    proxy.hush(new=False)
    database.engine.dispose()
    until(standby.take)
    standby.release()
    leader.release()


def test_a_listener_notices_that_nothing_can_come(proxy, database, monkeypatch):
    monkeypatch.setattr("callboard.jobs.postgres.listening._ASK_EVERY", 0.2)

    def listen():
        with listening(database) as heard:
            assert heard(0.1) == set()
            proxy.hush(new=False)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                heard(0.1)

    with pytest.raises(Unavailable, match="no answer within"):
        listen()


def test_a_new_connection_that_gets_no_answer_fails_within_seconds(proxy, database):
    proxy.hush(new=True)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="timeout expired"):
        in_autocommit(database)
    assert time.monotonic() - began < 10
    proxy.speak()
    assert in_autocommit(database) == 1


def test_an_enqueue_fails_in_time_and_works_again(proxy, redis_url, platform):
    publish(platform)
    request = job_request({"name": "build_report", "kwargs": {"account_id": 1}})
    with closing(Platform(sqlalchemy_url(proxy.url), redis_url)) as made:
        made.database.limits.answer = ANSWER
        enqueue_one(made, request)
        proxy.hush(new=False)
        with refused_in_time():
            enqueue_one(made, request)
        assert enqueue_one(made, request).id is not None


def test_a_server_that_is_stopped_is_noticed_on_a_local_socket(platform, database_url):
    with closing(Database(sqlalchemy_url(database_url))) as database:
        database.limits.answer = ANSWER
        with database.autocommit() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        os.kill(pid, signal.SIGSTOP)
        try:
            with refused_in_time():
                in_autocommit(database)
            assert in_autocommit(database) == 1
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_stop_ends_waits_that_have_begun(proxy, database):
    database.limits.answer = 60
    in_autocommit(database)
    proxy.hush(new=True)
    failed = []

    def wait():
        try:
            in_autocommit(database)
        except Unavailable as error:
            failed.append(error)

    waiter = Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    database.hurry(60, 0.2)
    waiter.join(5)
    assert not waiter.is_alive()
    assert failed
    with pytest.raises(Unavailable, match="this process stops"):
        in_autocommit(database)


def test_a_statement_that_takes_long_is_cancelled_before_its_connection_counts_as_lost(
    platform, database_url
):
    with closing(Database(sqlalchemy_url(database_url))) as database:

        def sleep():
            with database.transaction() as connection:
                connection.execute(text("SET LOCAL statement_timeout = '100ms'"))
                connection.execute(text("SELECT pg_sleep(5)"))

        with pytest.raises(Busy, match="statement_timeout"):
            sleep()
        assert database.outages == 0
        with database.autocommit() as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "25s"


def test_a_migration_may_take_longer(platform, database_url, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "callboard.jobs.postgres.migrating.schema.create",
        lambda connection: seen.extend(
            [
                connection.execute(text("SHOW statement_timeout")).scalar_one(),
                driver_of(connection).answer_within,
            ]
        ),
    )
    monkeypatch.setattr("callboard.jobs.postgres.migrating.schema.NEEDED", "a later version")
    platform.migrations.upgrade()
    assert seen == ["0", 3600.0]


@pytest.fixture(scope="module")
def waits_for_a_standby():
    """A server whose commits wait for a standby that never comes. The others' commits must not."""
    with own_servers() as servers:
        servers.postgres.ensure()
        url = servers.urls.database_url
        with closing(Platform(sqlalchemy_url(url), NOWHERE)) as made:
            made.migrations.upgrade()
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            admin.execute("SELECT pg_reload_conf()")
        yield url


@pytest.mark.parametrize("messages", ["notice", "error"])
def test_a_commit_that_the_standby_has_not_confirmed_is_no_success(waits_for_a_standby, messages):
    """Postgres commits with a warning when somebody cancels its wait for the standby.

    messages: client_min_messages of the connection's URL. `error` hides warnings.
    """
    url = f"{waits_for_a_standby}&options=-c%20client_min_messages%3D{messages}"
    stop = Event()

    def cancel():
        statement = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        with psycopg.connect(waits_for_a_standby, autocommit=True) as admin:
            while not stop.wait(0.05):
                admin.execute(statement)

    def commit():
        with database.transaction() as connection:
            connection.execute(text("INSERT INTO callboard.queues (name) VALUES (:name)"), {"name": name})

    canceller = Thread(target=cancel)
    canceller.start()
    try:
        with closing(Database(sqlalchemy_url(url))) as database:
            # The first commits may come before the server has read its new setting.
            for number in range(200):
                name = f"unconfirmed-{messages}-{number}"
                try:
                    commit()
                except Unavailable as error:
                    assert "standby" in error.message  # noqa: PT017 - earlier commits succeed
                    break
                time.sleep(0.05)
            else:
                pytest.fail("no commit waited for the standby")
            # The error says "may be committed", and here it is.
            with database.autocommit() as connection:
                found = connection.execute(
                    text("SELECT name FROM callboard.queues WHERE name = :name"), {"name": name}
                )
                assert found.scalar_one() == name
    finally:
        stop.set()
        canceller.join(30)
