"""Connections that callers lend: those that cannot be written through are refused before anything is written."""

import psycopg
import pytest
from sqlalchemy import create_engine, text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.client import Client
from callboard.jobs.errors import InvalidInput
from tests.integration.core.factories import at_once, count, publish


@pytest.fixture
def client(platform):
    publish(platform)
    return Client.over(platform)


def enqueue(client, connection):
    return client.enqueue("build_report", {"account_id": 7, "month": "é"}, connection=connection)


@pytest.mark.parametrize("factory", [psycopg.ClientCursor, psycopg.RawCursor, psycopg.ServerCursor])
def test_a_connection_with_another_kind_of_cursor_is_written_through(client, database_url, factory):
    if factory is psycopg.ServerCursor:
        options = {"server_cursor_factory": factory}
    else:
        options = {"cursor_factory": factory}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for name, value in options.items():
            setattr(connection, name, value)
        assert client.get(enqueue(client, connection).id).kwargs["month"] == "é"


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_another_client_encoding_is_refused(client, platform, database_url, encoding, kind):
    """Otherwise the text would be stored as other characters, without a word."""
    engine = create_engine(sqlalchemy_url(database_url))
    with psycopg.connect(database_url, autocommit=True) as plain, engine.begin() as wrapped:
        plain.execute(f"SET client_encoding TO '{encoding}'")
        wrapped.execute(text(f"SET client_encoding TO '{encoding}'"))
        with pytest.raises(InvalidInput, match="client_encoding"):
            enqueue(client, plain if kind == "psycopg" else wrapped)
    engine.dispose()
    assert count(platform) == 0


def test_a_pipeline_is_refused(client, platform, database_url):
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        connection.pipeline(),
        pytest.raises(InvalidInput, match="pipeline"),
    ):
        enqueue(client, connection)
    assert count(platform) == 0


def test_what_is_no_connection_is_refused_by_name(client, platform, database_url):
    engine = create_engine(sqlalchemy_url(database_url))
    with psycopg.connect(database_url) as connection:
        for wrong in (engine, database_url, 42, connection.cursor(), object()):
            with pytest.raises(InvalidInput, match="a connection of psycopg, SQLAlchemy or Django"):
                enqueue(client, wrong)
    engine.dispose()
    assert count(platform) == 0


def test_threads_that_wait_for_a_held_key_leave_connections_to_plain_jobs(client, platform, database_url):
    def ask(number):
        if number < 12:
            try:
                client.enqueue("build_report", {"account_id": 7}, unique_key="held")
            except Exception as error:  # noqa: BLE001 - its class is the answer
                return type(error).__name__
            return "written"
        return [client.enqueue("build_report", {"account_id": number}).state for _ in range(20)]

    with psycopg.connect(database_url) as holder:
        client.enqueue("build_report", {"account_id": 1}, unique_key="held", connection=holder)
        answers = at_once(14, ask)
    assert answers[:12] == ["Busy"] * 12
    assert answers[12:] == [["queued"] * 20] * 2


HOSTILE = (
    "SET datestyle = 'ISO, DMY'; SET timezone = 'Asia/Kathmandu'; SET standard_conforming_strings = off;"
    "SET search_path = ''; SET extra_float_digits = -15; SET bytea_output = escape"
)


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_a_connection_with_settings_of_its_own_is_written_through(client, database_url, kind):
    engine = create_engine(sqlalchemy_url(database_url))
    options = {"delay": "1h", "timeout": "90s", "unique_key": "k", "tags": ["a"]}
    with psycopg.connect(database_url) as plain, engine.begin() as wrapped:
        if kind == "psycopg":
            plain.execute(HOSTILE)
        else:
            wrapped.exec_driver_sql(HOSTILE)
        connection = plain if kind == "psycopg" else wrapped
        made = client.enqueue("build_report", {"account_id": 7}, connection=connection, **options)
    engine.dispose()
    stored = client.get(made.id)
    assert (stored.run_at, stored.timeout, stored.tags) == (made.run_at, made.timeout, made.tags)


@pytest.mark.parametrize(
    ("setting", "value"), [("DateStyle", "German, DMY"), ("IntervalStyle", "sql_standard")]
)
@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_times_that_the_driver_cannot_read_are_refused(client, platform, database_url, setting, value, kind):
    engine = create_engine(sqlalchemy_url(database_url))
    with psycopg.connect(database_url) as plain, engine.begin() as wrapped:
        plain.execute(f"SET {setting} = '{value}'")
        wrapped.execute(text(f"SET {setting} = '{value}'"))
        with pytest.raises(InvalidInput, match=f"its {setting} is {value}"):
            enqueue(client, plain if kind == "psycopg" else wrapped)
    engine.dispose()
    assert count(platform) == 0
