"""Callboard on Debian's Postgres and Redis, which it reaches by TCP and with passwords."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.request import job_request
from callboard.jobs.model.states import Verb
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.database import Database
from callboard.jobs.redis.queue_tokens import read_token
from tests.e2e.stage import Stage, staged, until
from tests.integration.core.factories import enqueue_all, execution, own_database
from tests.system.debian_servers import DebianServers, debian_servers


@pytest.fixture
def stage(servers: DebianServers) -> Iterator[Stage]:
    """The means to start processes on these servers, with an empty schema and an empty Redis."""
    with redis.Redis.from_url(servers.urls.redis_url) as client:
        client.flushall()
    with stage_on(servers) as made:
        yield made
        made.platform.migrations.downgrade("base")


@contextmanager
def stage_on(servers: DebianServers) -> Iterator[Stage]:
    urls = servers.urls
    with closing(Platform(sqlalchemy_url(urls.database_url), urls.redis_url)) as platform:
        platform.migrations.upgrade()
        with staged(platform, urls.database_url, urls.redis_url) as made:
            yield made


def test_the_servers_are_debians_and_are_reached_by_tcp(servers: DebianServers) -> None:
    with psycopg.connect(servers.urls.database_url) as connection:
        version = connection.execute("SELECT version(), inet_server_addr()::text").fetchone()
    assert version is not None
    assert "Debian" in version[0]
    assert version[1] == "127.0.0.1/32"
    with redis.Redis.from_url(servers.urls.redis_url) as client:
        assert urlsplit(servers.urls.redis_url).hostname == "127.0.0.1"
        assert client.info("server")["executable"].startswith("/usr/bin/")


@pytest.mark.parametrize(("set_in_url", "idle"), [("", 15), ("?keepalives_idle=77", 77)])
def test_a_connection_notices_a_server_that_vanished(
    servers: DebianServers, set_in_url: str, idle: int
) -> None:
    url = sqlalchemy_url(servers.urls.database_url + set_in_url)
    with closing(Database(url)) as database, database.autocommit() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with socket.socket(fileno=os.dup(driver.fileno())) as wire:
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_the_servers_refuse_who_has_no_password(servers: DebianServers) -> None:
    port = urlsplit(servers.urls.database_url).port
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://callboard@127.0.0.1:{port}/postgres")
    with (
        redis.Redis(port=urlsplit(servers.urls.redis_url).port or 0) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_the_migrations_go_up_and_down_and_up_again(servers: DebianServers) -> None:
    with own_database(servers.urls.database_url, "versions") as platform:
        up = platform.migrations.upgrade()
        assert up.up_to_date
        assert platform.migrations.downgrade("base").current is None
        assert platform.migrations.upgrade() == up


def test_a_job_is_enqueued_claimed_and_finished(stage: Stage) -> None:
    platform = stage.platform
    requests = [job_request({"name": "ledger", "kwargs": {"n": n}}) for n in range(20)]
    ids = {receipt.id for receipt in enqueue_all(platform, requests)}
    with execution(platform) as worker:
        # no scheduler runs: the enqueue itself has put the tokens into Redis
        raw = platform.transport.take(["default"], [len(ids)], worker=worker.worker)
        tokens = [token for token in map(read_token, raw) if token is not None]
        claimed = worker.claim(tokens)
        assert {job.id for job in claimed} == ids
        ends = [Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, b"1") for job in claimed]
        worker.finish(ends)
        assert worker.claim(tokens) == []
    assert stage.states() == {"succeeded": len(ids)}
    assert all(stage.job(job_id).result == 1 for job_id in ids)


def test_a_worker_and_a_scheduler_run_jobs(stage: Stage) -> None:
    stage.worker()
    stage.start("scheduler")
    ids = stage.enqueue_many("ledger", 100)
    later = stage.enqueue_with("ledger", {"n": 100}, delay="500ms")
    until(lambda: stage.states()["succeeded"] == 101)
    assert stage.starts() == {str(job_id): 1 for job_id in [*ids, later]}


def test_no_job_is_lost_when_redis_is_killed() -> None:
    with debian_servers() as servers, stage_on(servers) as stage:
        worker, scheduler = stage.worker(), stage.start("scheduler")
        stage.enqueue_many("ledger", 200)
        stage.wait_started(10)
        servers.redis.kill()
        servers.redis.wait()
        stage.enqueue_many("ledger", 50)
        until(lambda: stage.states() == {"succeeded": 250})
        assert worker.alive
        assert scheduler.alive
