"""Readiness over HTTP: 200 while jobs can be accepted, 503 while they cannot."""

import asyncio
import socket
import threading
from contextlib import closing

import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy.event import listen
from structlog.testing import capture_logs

from callboard.api import readiness
from callboard.api.readiness import Readiness, ReadinessCheck, ReadyStatus
from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.schema import SchemaStatus
from tests.e2e.stage import until
from tests.integration.api_client import api_in_process, api_on_a_port, without_redis

OK = {"database": "ok", "migrations": "ok", "redis": "ok"}


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


@pytest.fixture
def always_fresh(monkeypatch):
    """Every request checks."""
    monkeypatch.setattr(readiness, "_FRESH_SECONDS", 0.0)


class Hanging:
    """Replaces a check of the tables: it hangs until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.calls = 0

    def __call__(self) -> SchemaStatus:
        self.calls += 1
        assert self.released.wait(60)
        return SchemaStatus("0001", "0001")


def gauges():
    names = ("callboard_ready", {}), *(("callboard_degraded", {"check": c}) for c in ("migrations", "redis"))
    return tuple(REGISTRY.get_sample_value(name, labels) for name, labels in names)


def shown(answer):
    return answer.status_code, answer.json()["status"], answer.json()["degraded"]


def becomes(api, *expected):
    """The answer with this status code, status and degraded checks; a check from before may still run."""
    return until(lambda: (answer := api.anonymous.get("/readyz")) and shown(answer) == expected and answer)


def test_it_is_ready_when_all_checks_are_ok(api):
    answer = api.anonymous.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": OK, "degraded": []}
    assert gauges() == (1, 0, 0)


def test_it_is_degraded_and_accepts_jobs_while_redis_is_away(platform):
    with without_redis(platform) as lame, api_in_process(lame) as api:
        assert shown(api.anonymous.get("/readyz")) == (200, "degraded", ["redis"])
        assert api.operator.enqueue()["state"] == "queued"
        assert gauges() == (1, 0, 1)


def test_it_is_unavailable_while_the_database_is_away():
    with closing(
        Platform("postgresql+psycopg://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1/0")
    ) as nowhere:
        found = asyncio.run(ReadinessCheck(nowhere).current())
    checks = {"database": "unavailable", "migrations": "unknown", "redis": "unavailable"}
    assert found == Readiness(ReadyStatus.UNAVAILABLE, checks, ["redis"])
    assert not found.accepts
    assert gauges() == (0, 0, 1)


def test_it_is_unavailable_while_the_database_is_read_only(platform):
    url = platform.database.engine.url.render_as_string(hide_password=False)
    with closing(Platform(url, "redis://127.0.0.1:1/0")) as standby:
        listen(standby.database.engine, "connect", lambda connection, _: read_only(connection))
        found = asyncio.run(ReadinessCheck(standby).current())
    assert (found.status, found.checks["database"]) == (ReadyStatus.UNAVAILABLE, "unavailable")


def read_only(connection):
    connection.execute("SET default_transaction_read_only = on")
    connection.commit()


@pytest.mark.parametrize("current", [None, "0001"])
def test_it_is_unavailable_while_migrations_are_missing(api, always_fresh, monkeypatch, current):
    monkeypatch.setattr(api.platform.migrations, "status", lambda: SchemaStatus(current, "0002"))
    answer = becomes(api, 503, "unavailable", [])
    assert "callboard db upgrade" in answer.json()["checks"]["migrations"]


def test_a_deploy_that_upgrades_the_tables_first_takes_no_old_process_away(api, always_fresh, monkeypatch):
    monkeypatch.setattr(api.platform.migrations, "status", lambda: SchemaStatus("0003", "0002"))
    becomes(api, 200, "degraded", ["migrations"])
    assert gauges() == (1, 1, 0)


def test_the_stores_are_checked_once_a_second_however_many_ask(api, monkeypatch):
    asked = []
    monkeypatch.setattr(api.platform.transport, "check", lambda: asked.append(1))
    for _ in range(5):
        api.anonymous.get("/readyz")
    assert len(asked) <= 2


def test_a_database_that_hangs_makes_it_unavailable_and_all_probes_share_one_check(platform, monkeypatch):
    monkeypatch.setattr(readiness, "_TIMEOUT", 0.1)
    monkeypatch.setattr(readiness, "_FRESH_SECONDS", 0.0)
    hanging = Hanging()
    monkeypatch.setattr(platform.migrations, "status", hanging)
    with api_on_a_port(platform) as (_, server):

        async def probes(number):
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                return await asyncio.gather(*(client.get("/readyz") for _ in range(number)))

        for _ in range(3):
            for answer in asyncio.run(probes(30)):
                assert shown(answer)[:2] == (503, "unavailable")
                assert answer.json()["checks"]["database"].startswith("no answer")
        assert hanging.calls == 1
        assert sum(thread.name == "callboard-readiness" for thread in threading.enumerate()) == 1
        hanging.released.set()
        until(lambda: httpx.get(f"{server.url}/readyz").json()["status"] == "ready")


def test_a_check_that_fails_unexpectedly_makes_it_unavailable(api, always_fresh, monkeypatch):
    def broken():
        raise RuntimeError

    monkeypatch.setattr(api.platform.migrations, "status", broken)
    becomes(api, 503, "unavailable", [])


def test_a_statement_that_is_refused_changes_nothing(api, always_fresh, monkeypatch):
    becomes(api, 200, "ready", [])

    def refused():
        raise Busy("Postgres cancelled the statement")

    monkeypatch.setattr(api.platform.migrations, "status", refused)
    for _ in range(3):
        assert api.anonymous.get("/readyz").json()["checks"] == OK


def test_the_log_has_changes_only(platform, monkeypatch):
    monkeypatch.setattr(readiness, "_FRESH_SECONDS", 0.0)

    def away():
        raise Unavailable("it sleeps")

    async def checked(check, times):
        for _ in range(times):
            await check.current()

    with capture_logs() as logs, asyncio.Runner() as runner:
        check = ReadinessCheck(platform)
        runner.run(checked(check, 3))
        with monkeypatch.context() as patch:
            patch.setattr(platform.transport, "check", away)
            runner.run(checked(check, 3))
        runner.run(checked(check, 3))
    found = [entry for entry in logs if entry["event"] == "api.readiness"]
    assert [(entry["status"], entry["log_level"]) for entry in found] == [
        ("degraded", "warning"),
        ("ready", "info"),
    ]
    assert found[0]["reasons"] == {"redis": "it sleeps"}


def test_the_metrics_follow_without_any_request(platform, monkeypatch):
    monkeypatch.setattr(readiness, "_CHECK_EVERY", 0.01)
    with api_in_process(platform) as api, monkeypatch.context() as patch:
        until(lambda: gauges() == (1, 0, 0))
        patch.setattr(api.platform.migrations, "status", lambda: SchemaStatus(None, "0001"))
        until(lambda: gauges() == (0, 0, 0))


def test_after_the_stop_signal_it_is_stopping_and_accepts_jobs_for_the_stop_delay(platform):
    with api_on_a_port(platform, stop_delay=300.0) as (api, server):
        server.stop()
        until(lambda: api.anonymous.get("/readyz").json()["status"] == "stopping")
        assert api.anonymous.get("/readyz").status_code == 503
        assert api.operator.enqueue()["state"] == "queued"
        assert gauges() == (0, 0, 0)
        # new connections are accepted too
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        # the delay is over
        address = server.socket.getsockname()
        server._closes_at = 0.0
        until(lambda: not listens(address))


def listens(address):
    with socket.socket() as client:
        return client.connect_ex(address) == 0
