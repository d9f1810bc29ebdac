"""Enqueue in a transaction, whatever holds it: psycopg, asyncpg, SQLAlchemy and Django, async or not."""

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

import asyncpg
import django
import psycopg
import pytest
from django.conf import settings as django_settings
from psycopg.rows import class_row, dict_row
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from callboard.jobs.async_client import AsyncClient
from callboard.jobs.client import Client
from callboard.jobs.errors import Conflict, InvalidArguments, InvalidInput, NotFound
from callboard.jobs.postgres.callers import lent_psycopg
from tests.integration.core.factories import count, publish

SYNC = [
    "psycopg",
    "psycopg with dict rows",
    "psycopg unprepared",
    "sqlalchemy connection",
    "sqlalchemy session",
    "sqlalchemy scoped_session",
    "django",
]
ASYNC = [
    "psycopg async",
    "psycopg async with class rows",
    "asyncpg",
    "asyncpg pool",
    "asyncpg with codecs",
    "asyncpg unprepared",
    "sqlalchemy psycopg connection",
    "sqlalchemy psycopg session",
    "sqlalchemy asyncpg connection",
    "sqlalchemy asyncpg session",
    "sqlalchemy asyncpg scoped_session",
]


class Caller:
    """A caller's connection: what is lent, and how its transaction ends."""

    def __init__(self, lent, run, commit, rollback):
        self.lent, self.run, self.commit, self.rollback = lent, run, commit, rollback


@contextmanager
def caller(kind, url):
    """A caller of the sync kinds, whose transaction has not begun."""
    if kind.startswith("psycopg"):
        options = {"row_factory": dict_row} if "dict" in kind else {}
        with psycopg.connect(url, **options, prepare_threshold=None if "unprepared" in kind else 0) as made:
            yield Caller(made, made.execute, made.commit, made.rollback)
            made.rollback()
    elif kind == "django":
        yield from django_caller(url)
    else:
        # A program's own JSON functions must not change what is stored or returned.
        engine = create_engine(
            url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool, json_deserializer=str
        )
        if "session" in kind:
            made = scoped_session(sessionmaker(engine)) if "scoped" in kind else Session(engine)
        else:
            made = engine.connect()
        yield Caller(made, lambda sql: made.execute(text(sql)), made.commit, made.rollback)
        made.rollback()
        made.close()


def django_caller(url):
    if not django_settings.configured:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts["dbname"],
            "USER": parts.get("user", ""),
            "PASSWORD": parts.get("password", ""),
            "HOST": parts.get("host", ""),
            "PORT": parts.get("port", ""),
        }
        sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        django_settings.configure(DATABASES={"default": database, "lite": sqlite})
        django.setup()
    from django.db import connection, transaction

    def run(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)

    def end(*, keep):
        if not keep:
            transaction.set_rollback(True)
        block.__exit__(None, None, None)
        block.__enter__()

    block = transaction.atomic()
    block.__enter__()
    yield Caller(connection, run, lambda: end(keep=True), lambda: end(keep=False))
    transaction.set_rollback(True)
    block.__exit__(None, None, None)
    connection.close()


@asynccontextmanager
async def async_caller(kind, url):
    """A caller of the async kinds, whose transaction has begun."""
    if kind.startswith("psycopg"):
        options = {"row_factory": class_row(dict)} if "class" in kind else {}
        async with await psycopg.AsyncConnection.connect(url, **options) as made:
            yield Caller(made, made.execute, made.commit, made.rollback)
            await made.rollback()
    elif kind.startswith("asyncpg"):
        async with (
            asyncpg.create_pool(
                url, min_size=1, max_size=1, statement_cache_size=0 if "unprepared" in kind else 100
            ) as pool,
            pool.acquire() as lent,
        ):
            made = lent if "pool" in kind else await asyncpg.connect(url)
            if "codecs" in kind:
                for name in ("json", "jsonb"):
                    await made.set_type_codec(
                        name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
                    )
            await made.execute("BEGIN")
            yield Caller(made, made.execute, lambda: made.execute("COMMIT"), lambda: made.execute("ROLLBACK"))
            await made.execute("ROLLBACK")
            if made is not lent:
                await made.close()
    else:
        driver = "asyncpg" if "asyncpg" in kind else "psycopg"
        engine = create_async_engine(
            url.replace("postgresql://", f"postgresql+{driver}://"), poolclass=NullPool
        )
        if "scoped" in kind:
            made = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        elif "session" in kind:
            made = AsyncSession(engine)
        else:
            made = await engine.connect()
        yield Caller(made, lambda sql: made.execute(text(sql)), made.commit, made.rollback)
        await made.rollback()
        await made.close()
        await engine.dispose()


@pytest.fixture
def client(platform):
    publish(platform)
    return Client.over(platform)


@pytest.fixture
def url(database_url):
    """The database, by TCP or socket, as every driver takes it."""
    return database_url


def names(platform):
    with platform.database.autocommit() as connection:
        return {
            row.id: row.kwargs for row in connection.execute(text("SELECT id, kwargs FROM callboard.jobs"))
        }


ODD = {"account_id": 7, "month": "100% :sure $1 é"}
OPTIONS = {"delay": "1h", "timeout": "90s", "tags": ["a", "b"], "max_attempts": 3, "priority": 2}


@pytest.mark.parametrize("kind", SYNC)
def test_a_job_is_there_when_the_callers_transaction_commits_and_only_then(client, platform, url, kind):
    with caller(kind, url) as who:
        gone = client.enqueue("build_report", ODD, connection=who.lent)
        who.rollback()
        job = client.enqueue("build_report", ODD, connection=who.lent, **OPTIONS)
        many = client.enqueue_many(
            "build_report", ({"account_id": n} for n in range(1_000)), connection=who.lent
        )
        with pytest.raises(NotFound):
            client.get(job.id)
        who.commit()
    assert client.get(job.id) == job
    assert (job.kwargs, job.tags, job.state, type(job.id)) == (ODD, ["a", "b"], "scheduled", UUID)
    stored = names(platform)
    assert gone.id not in stored
    assert [stored[one]["account_id"] for one in many] == list(range(1_000))


@pytest.mark.parametrize("kind", ASYNC)
def test_a_job_is_there_when_an_async_transaction_commits_and_only_then(
    client, platform, url, redis_url, kind
):
    async def scenario():
        async with AsyncClient(database_url=url, redis_url=redis_url) as own, async_caller(kind, url) as who:
            gone = await own.enqueue("build_report", ODD, connection=who.lent)
            await who.rollback()
            if kind.startswith("asyncpg"):
                await who.run("BEGIN")
            job = await own.enqueue("build_report", ODD, connection=who.lent, **OPTIONS)
            every = [{"account_id": n} for n in range(1_000)]
            many = await own.enqueue_many("build_report", every, connection=who.lent)
            with pytest.raises(NotFound):
                await own.get(job.id)
            await who.commit()
            return gone, job, many, await own.get(job.id)

    gone, job, many, read = asyncio.run(scenario())
    assert read == job
    assert (job.kwargs, job.tags, job.state, type(job.id)) == (ODD, ["a", "b"], "scheduled", UUID)
    stored = names(platform)
    assert gone.id not in stored
    assert [stored[one]["account_id"] for one in many] == list(range(1_000))


def keyed(number, **options):
    return {"kwargs": {"account_id": number}, "unique_key": "k", **options}


@pytest.mark.parametrize("kind", SYNC)
def test_after_an_error_of_ours_the_callers_transaction_goes_on_without_a_part_of_it(
    client, platform, url, kind
):
    with caller(kind, url) as who:
        first = client.enqueue("build_report", connection=who.lent, **keyed(1))
        assert client.enqueue("build_report", connection=who.lent, **keyed(2)).id == first.id
        moved = client.enqueue("build_report", connection=who.lent, **keyed(3, on_conflict="replace"))
        assert (moved.id, moved.kwargs) == (first.id, {"account_id": 3})
        with pytest.raises(Conflict):
            client.enqueue("build_report", connection=who.lent, **keyed(4, on_conflict="reject"))
        with pytest.raises(Conflict):
            client.enqueue_many(
                "build_report",
                [{"account_id": 8}] * 2,
                connection=who.lent,
                unique_key="two",
                on_conflict="reject",
            )
        with pytest.raises(InvalidArguments):
            client.enqueue("build_report", {"account_id": "x"}, connection=who.lent)
        last = client.enqueue("build_report", {"account_id": 9}, connection=who.lent)
        who.commit()
    assert names(platform) == {first.id: {"account_id": 3}, last.id: {"account_id": 9}}


@pytest.mark.parametrize("kind", ASYNC)
def test_after_an_error_of_ours_an_async_transaction_goes_on(client, platform, url, redis_url, kind):
    async def scenario():
        async with AsyncClient(database_url=url, redis_url=redis_url) as own, async_caller(kind, url) as who:
            first = await own.enqueue("build_report", connection=who.lent, **keyed(1, unique_for="1h"))
            assert (await own.enqueue("build_report", connection=who.lent, **keyed(2))).id == first.id
            moved = await own.enqueue(
                "build_report", connection=who.lent, **keyed(3, on_conflict="replace", unique_for="2h")
            )
            assert (moved.id, moved.kwargs) == (first.id, {"account_id": 3})
            with pytest.raises(Conflict):
                await own.enqueue_many(
                    "build_report", [{"account_id": 8}] * 2, connection=who.lent,
                    unique_key="two", on_conflict="reject",
                )  # fmt: skip
            with pytest.raises(InvalidArguments):
                await own.enqueue("build_report", {"account_id": "x"}, connection=who.lent)
            last = await own.enqueue("build_report", {"account_id": 9}, connection=who.lent)
            await who.commit()
            return first, last

    first, last = asyncio.run(scenario())
    assert names(platform) == {first.id: {"account_id": 3}, last.id: {"account_id": 9}}


@pytest.mark.parametrize("kind", SYNC)
def test_a_failed_transaction_is_named_and_a_savepoint_mends_it(client, platform, url, kind):
    with caller(kind, url) as who:
        who.run("SELECT 1")
        who.run("SAVEPOINT own")
        with pytest.raises(Exception, match="division by zero"):
            who.run("SELECT 1 / 0")
        with pytest.raises(InvalidInput, match="connection: its transaction has failed; roll it back"):
            client.enqueue("build_report", {"account_id": 1}, connection=who.lent)
        if "session" in kind or kind.startswith("sqlalchemy"):
            who.lent.connection().exec_driver_sql("ROLLBACK TO own") if "session" in kind else who.run(
                "ROLLBACK TO own"
            )
        else:
            who.run("ROLLBACK TO own")
        client.enqueue("build_report", {"account_id": 2}, connection=who.lent)
        who.commit()
    assert list(names(platform).values()) == [{"account_id": 2}]


@pytest.mark.parametrize("kind", ASYNC)
def test_a_failed_async_transaction_is_named(client, platform, url, redis_url, kind):
    async def scenario():
        async with AsyncClient(database_url=url, redis_url=redis_url) as own, async_caller(kind, url) as who:
            await who.run("SAVEPOINT own")
            with pytest.raises(Exception, match="division by zero"):
                await who.run("SELECT 1 / 0")
            with pytest.raises(InvalidInput, match="its transaction has failed; roll it back"):
                await own.enqueue("build_report", {"account_id": 1}, connection=who.lent)
            await who.run("ROLLBACK TO own")
            await own.enqueue("build_report", {"account_id": 2}, connection=who.lent)
            await who.run("ROLLBACK TO own")
            await own.enqueue("build_report", {"account_id": 3}, connection=who.lent)
            await who.commit()

    asyncio.run(scenario())
    assert list(names(platform).values()) == [{"account_id": 3}]


@pytest.mark.parametrize("kind", SYNC)
def test_an_async_client_refuses_a_connection_that_is_not_async_and_names_the_client(
    client, url, redis_url, kind
):
    async def scenario(lent):
        async with AsyncClient(database_url=url, redis_url=redis_url) as own:
            await own.enqueue("build_report", {"account_id": 1}, connection=lent)

    with caller(kind, url) as who, pytest.raises(InvalidInput, match="use Client with it"):
        asyncio.run(scenario(who.lent))


@pytest.mark.parametrize("kind", ASYNC)
def test_a_client_refuses_an_async_connection_and_names_the_async_client(client, url, kind):
    async def scenario():
        async with async_caller(kind, url) as who:
            with pytest.raises(InvalidInput, match="use AsyncClient with it"):
                client.enqueue("build_report", {"account_id": 1}, connection=who.lent)

    asyncio.run(scenario())


def test_djangos_connection_to_another_database_is_refused_by_its_alias(client, url):
    with caller("django", url):
        from django.db import connections

        with pytest.raises(InvalidInput, match="the Django connection 'lite' is one to sqlite"):
            client.enqueue("build_report", {"account_id": 1}, connection=connections["lite"])
        assert (
            client.enqueue("build_report", {"account_id": 1}, connection=connections["default"]).state
            == "queued"
        )


def test_a_session_of_several_databases_is_refused_with_sqlalchemys_reason(client, platform):
    with pytest.raises(InvalidInput, match="SQLAlchemy says: "):
        client.enqueue("build_report", {"account_id": 1}, connection=Session())
    assert count(platform) == 0


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg"])
def test_in_autocommit_a_batch_with_keys_is_whole_or_not_there(client, platform, url, redis_url, kind):
    async def scenario():
        async with AsyncClient(database_url=url, redis_url=redis_url) as own:
            if kind == "psycopg":
                lent = await psycopg.AsyncConnection.connect(url, autocommit=True)
            else:
                lent = await asyncpg.connect(url)
            many = {"connection": lent, "on_conflict": "reject"}
            with pytest.raises(Conflict):
                await own.enqueue_many("build_report", [{"account_id": 1}] * 2, unique_key="k", **many)
            job = await own.enqueue("build_report", {"account_id": 2}, connection=lent)
            await lent.close()
            return job

    job = asyncio.run(scenario())
    assert list(names(platform)) == [job.id]


def test_a_connection_to_a_database_without_our_tables_is_named(client, url, redis_url, platform):
    """The transaction of the other database has failed then, as after any error of it."""
    elsewhere = psycopg.conninfo.make_conninfo(url, dbname="postgres")
    with caller("psycopg", elsewhere) as who:
        with pytest.raises(InvalidInput, match="no Callboard tables in the schema callboard"):
            client.enqueue("build_report", {"account_id": 1}, connection=who.lent)
        who.rollback()
        with pytest.raises(InvalidInput, match="no Callboard tables in the schema callboard"):
            client.enqueue_many("build_report", [{"account_id": 1}], connection=who.lent)

    async def scenario():
        async with AsyncClient(database_url=url, redis_url=redis_url) as own:
            lent = await psycopg.AsyncConnection.connect(elsewhere)
            async with lent:
                await own.enqueue("build_report", {"account_id": 1}, connection=lent)

    with pytest.raises(InvalidInput, match="no Callboard tables in the schema callboard"):
        asyncio.run(scenario())
    assert count(platform) == 0


def test_an_asyncpg_connection_that_its_pool_has_back_or_with_codecs_for_our_types_is_refused(
    url, redis_url, platform
):
    publish(platform)

    async def scenario():
        async with (
            AsyncClient(database_url=url, redis_url=redis_url) as own,
            asyncpg.create_pool(url, min_size=1, max_size=1) as pool,
        ):
            async with pool.acquire() as lent:
                await lent.set_type_codec("interval", encoder=str, decoder=str, schema="pg_catalog")
                with pytest.raises(InvalidInput, match="codec of its own for the type interval"):
                    await own.enqueue("build_report", {"account_id": 1}, connection=lent)
                await lent.reset_type_codec("interval", schema="pg_catalog")
                await own.enqueue("build_report", {"account_id": 1}, connection=lent, timeout="5s")
            with pytest.raises(InvalidInput, match=r"asyncpg says: .*released back to the pool"):
                await own.enqueue("build_report", {"account_id": 1}, connection=lent)

    asyncio.run(scenario())
    assert count(platform) == 1


def test_a_connection_in_the_middle_of_a_copy_is_refused_and_not_waited_for_without_end(
    client, url, redis_url, monkeypatch
):
    monkeypatch.setattr(lent_psycopg, "LONGEST_BUSY", 0.1)
    copy = "COPY (SELECT 1) TO STDOUT"
    with caller("psycopg", url) as who, who.lent.cursor() as cursor, cursor.copy(copy) as rows:
        with pytest.raises(InvalidInput, match="busy with another statement, a COPY or a stream"):
            client.enqueue("build_report", {"account_id": 1}, connection=who.lent)
        list(rows)

    async def scenario():
        async with (
            AsyncClient(database_url=url, redis_url=redis_url) as own,
            await psycopg.AsyncConnection.connect(url) as lent,
            lent.cursor() as cursor,
            cursor.copy(copy) as rows,
        ):
            with pytest.raises(InvalidInput, match="busy with another statement, a COPY or a stream"):
                await own.enqueue("build_report", {"account_id": 1}, connection=lent)
            async for _ in rows:
                pass

    asyncio.run(scenario())


def test_an_enqueue_that_is_cancelled_as_it_begins_leaves_no_transaction_open_in_autocommit(
    url, redis_url, platform, monkeypatch
):
    """Otherwise later statements of the connection would never be committed."""
    publish(platform)
    execute = lent_psycopg.LentAsyncPsycopg.execute

    def cancelled(self, statement, parameters=None):
        rows = execute(self, statement, parameters)
        if str(statement) == "BEGIN":
            raise asyncio.CancelledError
        return rows

    async def scenario():
        lent = await psycopg.AsyncConnection.connect(url, autocommit=True)
        async with AsyncClient(database_url=url, redis_url=redis_url) as own, lent:
            monkeypatch.setattr(lent_psycopg.LentAsyncPsycopg, "execute", cancelled)
            with pytest.raises(asyncio.CancelledError):
                await own.enqueue("build_report", {"account_id": 1}, unique_key="k", connection=lent)
            monkeypatch.undo()
            await own.enqueue("build_report", {"account_id": 2}, unique_key="k", connection=lent)
            # The end of the connection's block would commit.
            await lent.close()

    asyncio.run(scenario())
    assert list(names(platform).values()) == [{"account_id": 2}]
