"""A failover to a synchronous standby, under load: clients and processes have both servers in their URL."""

import time
from contextlib import closing
from threading import Event, Thread
from uuid import UUID

import httpx
import pytest
import redis
from sqlalchemy import text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.client import Client
from callboard.jobs.errors import Unavailable
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.database import Database
from tests.e2e.stage import staged, until
from tests.system.cluster import cluster
from tests.system.debian_servers import DebianServers


def test_a_failover_to_a_synchronous_standby_loses_nothing_that_was_acknowledged(
    servers: DebianServers,
) -> None:
    with redis.Redis.from_url(servers.urls.redis_url) as hints:
        hints.flushall()
    with (
        cluster() as postgres,
        closing(Platform(sqlalchemy_url(postgres.url), servers.urls.redis_url)) as platform,
    ):
        platform.migrations.upgrade()
        with staged(platform, postgres.url, servers.urls.redis_url) as stage:
            processes = [stage.start("scheduler"), stage.worker(processes=2), stage.start("api", port=0)]
            api = processes[2]
            listening = until(lambda: api.events("api.listening"))
            _, token = platform.auth.create("load", "operator")
            acknowledged: list[str] = []
            stop = Event()

            def by_http() -> None:
                headers = {"Authorization": f"Bearer {token}"}
                with httpx.Client(base_url=str(listening[0]["url"]), headers=headers, timeout=60) as http:
                    while not stop.is_set():
                        answer = http.post("/v1/jobs", json={"name": "ledger", "kwargs": {"n": 1}})
                        assert answer.status_code in {201, 503}, answer.text
                        if answer.status_code == 201:
                            acknowledged.append(answer.json()["id"])

            def by_python() -> None:
                with closing(Platform(sqlalchemy_url(postgres.url), servers.urls.redis_url)) as own:
                    client = Client.over(own)
                    while not stop.is_set():
                        try:
                            acknowledged.append(str(client.enqueue("ledger", {"n": 2}).id))
                        except Unavailable:
                            time.sleep(0.01)

            load = [Thread(target=by_http), Thread(target=by_http), Thread(target=by_python)]
            for thread in load:
                thread.start()
            until(lambda: len(acknowledged) > 300)
            postgres.fail_over()
            before = len(acknowledged)
            until(lambda: len(acknowledged) > before + 300, patience=90)
            stop.set()
            for thread in load:
                thread.join(60)
                assert not thread.is_alive()
            platform.database.close()
            until(lambda: set(stage.states()) == {"succeeded"}, patience=90)
            with platform.database.autocommit() as connection:
                ended = connection.execute(text("SELECT id FROM callboard.jobs WHERE state = 'succeeded'"))
                kept = {str(UUID(str(row[0]))) for row in ended}
            assert set(acknowledged) - kept == set()
            assert all(process.alive for process in processes)


def test_of_two_servers_the_primary_is_used_wherever_it_is_in_the_url() -> None:
    with cluster() as postgres:
        ports = (postgres.ports[1], postgres.ports[0])
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        url = f"postgresql://callboard:{postgres.password}@{hosts}/postgres"
        with closing(Database(sqlalchemy_url(url))) as database, database.autocommit() as connection:
            assert connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one() is False
        standby = Database(sqlalchemy_url(f"{url}?target_session_attrs=standby"))
        with closing(standby), standby.autocommit() as connection:
            assert connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one() is True
        postgres.primary.kill()
        gone = Database(sqlalchemy_url(url))
        with closing(gone), pytest.raises(Unavailable), gone.autocommit():
            pass
