"""Callboard behind PgBouncer in transaction mode, which gives each transaction another session of a few."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.client import Client
from callboard.jobs.platform import Platform
from tests.e2e.stage import PATIENCE, Process, Stage, until
from tests.integration.core.test_sessions import walk
from tests.system.debian_servers import DebianServers
from tests.system.pgbouncer import pgbouncer
from tests.system.test_debian_servers import stage_on

#: How many sessions all clients share.
SESSIONS = 3
#: What a stranger may leave in a session that it shares with others.
STRANGE = {
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "search_path": "strange, pg_catalog",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "synchronous_commit": "off",
    "lock_timeout": "1ms",
    "client_min_messages": "error",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "enable_indexscan": "off",
    "plan_cache_mode": "force_custom_plan",
}
#: PgBouncer itself sets the name of the client that a session serves.
LEFT = (
    "SELECT name || '=' || setting FROM pg_settings WHERE source = 'session' AND name <> 'application_name'"
    " ORDER BY 1"
)


@pytest.fixture
def stage(servers: DebianServers) -> Iterator[Stage]:
    """Processes with sessions of their own, and tables."""
    with stage_on(servers) as made:
        yield made
        made.platform.migrations.downgrade("base")


@pytest.fixture
def pooled_url(servers: DebianServers, stage: Stage) -> Iterator[str]:
    with pgbouncer(servers.urls.database_url, sessions=SESSIONS) as pooler:
        yield pooler.url


@pytest.fixture
def pooled(servers: DebianServers, pooled_url: str) -> Iterator[Platform]:
    with closing(Platform(sqlalchemy_url(pooled_url), servers.urls.redis_url)) as made:
        yield made


@contextmanager
def all_sessions(url: str) -> Iterator[list["psycopg.Connection[Any]"]]:
    """One client for each shared session: each holds a transaction, so none has the same."""
    clients = [psycopg.connect(url, prepare_threshold=None) for _ in range(SESSIONS)]
    try:
        pids = [client.execute("SELECT pg_backend_pid()").fetchone() for client in clients]
        assert len(set(pids)) == SESSIONS
        yield clients
    finally:
        for client in clients:
            # PgBouncer would close the session of a client that leaves in a transaction.
            client.rollback()
            client.close()


def left_behind(url: str) -> list[tuple[list[Any], ...]]:
    """What the shared sessions hold: settings, prepared statements, channels and locks."""
    found = []
    with all_sessions(url) as clients:
        for client in clients:
            queries = (
                LEFT,
                "SELECT name FROM pg_prepared_statements",
                "SELECT pg_listening_channels()",
                "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            )
            found.append(tuple(client.execute(query).fetchall() for query in queries))
    return sorted(found)


def api_through(stage: Stage, url: str) -> tuple[Process, httpx.Client]:
    api = stage.start("api", port=0, database_url=url)
    listening = until(lambda: not api.alive or api.events("api.listening"))
    assert api.alive, api.log.read_text()
    _, token = stage.platform.auth.create("pooled", "admin")
    headers = {"Authorization": f"Bearer {token}"}
    return api, httpx.Client(base_url=str(listening[0]["url"]), headers=headers, timeout=PATIENCE)


def test_api_and_clients_work_and_leave_nothing_in_the_shared_sessions(
    stage: Stage, pooled: Platform, pooled_url: str
) -> None:
    before = left_behind(pooled_url)
    urls = {
        "database_url": pooled_url,
        "database_direct_url": stage.environment()["CALLBOARD_DATABASE_URL"],
    }
    stage.worker(**urls)
    stage.start("scheduler", **urls)
    api, http = api_through(stage, pooled_url)
    client = Client.over(pooled)
    with http, ThreadPoolExecutor(8) as threads:
        single = [
            threads.submit(http.post, "/v1/jobs", json={"name": "ledger", "kwargs": {"n": n}})
            for n in range(60)
        ]
        python = [threads.submit(client.enqueue, "ledger", {"n": 100 + n}) for n in range(60)]
        keyed = [
            threads.submit(client.enqueue, "ledger", {"n": 200 + n}, unique_key=f"key {n}") for n in range(20)
        ]
        many = client.enqueue_many("ledger", [{"n": 300 + n} for n in range(500)])
        batch = http.post(
            "/v1/jobs/batch", json={"jobs": [{"name": "ledger", "kwargs": {"n": 900 + n}} for n in range(50)]}
        )
        assert batch.status_code == 201, batch.text
        repeated = [
            http.post(
                "/v1/jobs",
                json={"name": "ledger", "kwargs": {"n": 1000}},
                headers={"Idempotency-Key": "once"},
            )
            for _ in range(3)
        ]
        assert len({answer.json()["id"] for answer in repeated}) == 1
        assert {answer.result().status_code for answer in single} == {201}
        assert len({job.result().id for job in python + keyed} | set(many)) == 60 + 20 + 500
        until(lambda: stage.states() == {"succeeded": 691})
        assert stage.starts().total() == 691
        listed = http.get("/v1/jobs", params={"limit": 100}).json()
        assert len(listed["items"]) == 100
        assert http.get("/readyz").status_code == 200
        assert not [line for line in api.events("http.request") if int(str(line.get("status", 0))) >= 500]
    assert left_behind(pooled_url) == before


def test_what_a_stranger_left_in_the_sessions_changes_nothing(
    stage: Stage, pooled: Platform, pooled_url: str
) -> None:
    with all_sessions(pooled_url) as clients:
        for number, client in enumerate(clients):
            if not number:
                client.execute("CREATE SCHEMA IF NOT EXISTS strange")
                client.execute(
                    "CREATE OR REPLACE FUNCTION strange.now() RETURNS timestamptz AS 'SELECT NULL::timestamptz' LANGUAGE sql"
                )
            for name, value in STRANGE.items():
                client.execute("SELECT set_config(%s, %s, false)", (name, value))
        for client in clients:
            client.commit()
    strange = left_behind(pooled_url)
    walk(pooled)
    with pooled.database.transaction() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
        assert connection.execute(text("SHOW search_path")).scalar_one() == "pg_catalog, pg_temp"
    assert left_behind(pooled_url) == strange


@pytest.mark.parametrize("ignored", ["", "options", "options,extra_float_digits"])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_is_recognised_in_any_mode_and_configuration(
    servers: DebianServers, stage: Stage, ignored: str, mode: str
) -> None:
    with (
        pgbouncer(servers.urls.database_url, pool_mode=mode, ignore_startup_parameters=ignored) as pooler,
        closing(Platform(sqlalchemy_url(pooler.url), servers.urls.redis_url)) as made,
    ):
        walk(made)
        refused = command(stage, pooler.url, "run", "worker")
    assert refused.returncode == 2
    assert "CALLBOARD_DATABASE_DIRECT_URL" in refused.stderr


def command(stage: Stage, url: str, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "callboard", *words],
        env=stage.environment(database_url=url, **settings),
        cwd=stage.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("run", "worker"),
        ("run", "scheduler"),
        ("db", "upgrade"),
        ("db", "downgrade", "0006", "--yes"),
        ("up",),
    ],
)
def test_what_needs_its_own_sessions_refuses_a_pooler_in_one_sentence(
    stage: Stage, pooled_url: str, words: tuple[str, ...]
) -> None:
    before = left_behind(pooled_url)
    refused = command(stage, pooled_url, *words, port="0", jobs="examples.jobs")
    assert refused.returncode == 2
    [line] = [line for line in refused.stderr.splitlines() if "CALLBOARD_DATABASE_DIRECT_URL" in line]
    assert "pooler" in line
    assert left_behind(pooled_url) == before


def test_migrations_go_round_the_pooler(stage: Stage, pooled_url: str) -> None:
    direct = stage.environment()["CALLBOARD_DATABASE_URL"]
    done = command(stage, pooled_url, "db", "upgrade", database_direct_url=direct)
    assert (done.returncode, "up to date" in done.stderr) == (0, True)


def test_doctor_names_the_pooler_and_checks_the_direct_address(
    servers: DebianServers, stage: Stage, pooled_url: str
) -> None:
    direct = servers.urls.database_url
    assert "set CALLBOARD_DATABASE_DIRECT_URL" in command(stage, pooled_url, "doctor").stdout
    same = command(stage, pooled_url, "doctor", database_direct_url=direct).stdout
    assert "leads to the same database" in same
    other = command(
        stage, pooled_url, "doctor", database_direct_url=direct.replace("/postgres", "/template1")
    )
    assert (other.returncode, "leads to another database" in other.stdout) == (1, True)
