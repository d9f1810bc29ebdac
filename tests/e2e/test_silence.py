"""Postgres falls silent: connections stay open, and nothing comes back. Processes notice, go on, and stop."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import httpx
import psutil
import pytest

from callboard.jobs.platform import Platform
from tests.e2e.stage import PATIENCE, Process, Stage, staged, until
from tests.silent_postgres import SilentPostgres, silent_postgres

#: What a process may take to stop beyond its grace period. Seconds.
FEW_SECONDS = 15
GRACE = 2


@pytest.fixture
def proxy(database_url: str) -> Iterator[SilentPostgres]:
    with silent_postgres(database_url) as made:
        yield made


@pytest.fixture
def stage(platform: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    with staged(platform, database_url, redis_url) as made:
        yield made


@contextmanager
def client_of(stage: Stage, api: Process) -> Iterator[httpx.Client]:
    listening = until(lambda: not api.alive or api.events("api.listening"))
    assert api.alive, api.log.read_text()
    _, token = stage.platform.auth.create("silence", "operator")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=str(listening[0]["url"]), headers=headers, timeout=2 * PATIENCE) as client:
        yield client


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    return [process for process in processes if process.is_running() and process.status() != "zombie"]


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run after a moment: a supervisor's resource tracker ends after it.

    They are killed, so that they do not disturb other tests.
    """
    _, left = psutil.wait_procs(processes, timeout=10)
    for process in left:
        process.kill()
    return left


def post(client: httpx.Client, n: int) -> tuple[int, float, str | None]:
    """The status, the seconds it took, and the job's id."""
    began = time.monotonic()
    answer = client.post("/v1/jobs", json={"name": "ledger", "kwargs": {"n": n}})
    return answer.status_code, time.monotonic() - began, answer.json().get("id")


@pytest.mark.long
def test_connections_that_died_without_a_word_are_replaced_within_half_a_minute(
    stage: Stage, proxy: SilentPostgres
) -> None:
    """As after a firewall dropped them: new connections work."""
    stage.start("scheduler", database_url=proxy.url)
    api = stage.start("api", port=0, database_url=proxy.url)
    worker = stage.worker(database_url=proxy.url)
    with client_of(stage, api) as client, ThreadPoolExecutor(10) as threads:
        assert [post(client, n)[0] for n in range(20)] == [201] * 20
        until(lambda: stage.states() == {"succeeded": 20})
        proxy.hush(new=False)
        answers = list(threads.map(lambda n: post(client, n), range(20, 40)))
        assert {status for status, _, _ in answers} <= {201, 503}
        assert max(seconds for _, seconds, _ in answers) < 45
        # What was acknowledged runs. What got 503 may run, too: its connection broke after the commit.
        accepted = {str(UUID(job_id)) for _, _, job_id in answers if job_id}
        until(lambda: post(client, 40)[0] == 201)
        until(lambda: client.get("/readyz").status_code == 200)
        until(lambda: accepted <= set(stage.starts()), patience=60)
        until(lambda: set(stage.states()) == {"succeeded"}, patience=60)
        assert max(stage.starts().values()) == 1
        assert api.alive
        assert worker.alive


def test_a_silent_server_makes_the_api_unready_and_keeps_no_process_from_its_end(
    stage: Stage, proxy: SilentPostgres
) -> None:
    settings = {"database_url": proxy.url, "grace": f"{GRACE}s"}
    scheduler = stage.start("scheduler", **settings)
    api = stage.start("api", port=0, **settings)
    worker = stage.worker(processes=2, **settings)
    with client_of(stage, api) as client:
        assert post(client, 1)[0] == 201
        until(lambda: stage.states() == {"succeeded": 1})
        children = psutil.Process(worker.pid).children(recursive=True)
        proxy.hush(new=True)
        until(lambda: client.get("/readyz").status_code == 503)
    began = time.monotonic()
    for process in (scheduler, api, worker):
        process.send(signal.SIGTERM)
    taken = {}
    for name, process in (("scheduler", scheduler), ("api", api), ("worker", worker)):
        process.ends(60)
        taken[name] = time.monotonic() - began
    assert max(taken.values()) < GRACE + FEW_SECONDS, taken
    assert not running(children)


@pytest.mark.long
def test_up_leaves_no_process_behind_when_postgres_is_silent(stage: Stage, proxy: SilentPostgres) -> None:
    up = stage.start("up", database_url=proxy.url, grace=f"{GRACE}s", port=0, processes=1)
    until(lambda: len(psutil.Process(up.pid).children(recursive=True)) >= 4, patience=60)
    until(stage.platform.workers.live, patience=60)
    processes = psutil.Process(up.pid).children(recursive=True)
    proxy.hush(new=True)
    time.sleep(1)
    up.send(signal.SIGTERM)
    assert up.ends(120) == 0
    assert not running(processes)


@pytest.mark.parametrize("role", ["scheduler", "worker", "api", "up"])
def test_a_process_that_starts_while_postgres_is_silent_ends_soon(
    stage: Stage, proxy: SilentPostgres, role: str
) -> None:
    """Its first statements get no answer: a login is answered, and nothing after it."""
    proxy.only_logins = True
    process = stage.start(role, database_url=proxy.url, grace="0s", port=0, processes=1)
    until(lambda: proxy.opened)
    time.sleep(1)
    process.send(signal.SIGTERM)
    began = time.monotonic()
    process.ends(120)
    assert time.monotonic() - began < FEW_SECONDS


@pytest.mark.long
def test_a_worker_that_hangs_at_its_start_does_not_outlive_its_supervisor(stage: Stage) -> None:
    """Its jobs' module may wait for a database of its own."""
    began = stage.folder / "began"
    (stage.folder / "hanging_jobs.py").write_text(
        f"import pathlib, time\npathlib.Path({str(began)!r}).touch()\ntime.sleep(3600)\n"
    )
    worker = stage.start("worker", jobs="hanging_jobs", grace="0s", processes=1)
    until(began.exists)
    processes = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    try:
        until(lambda: not alive(processes))
    finally:
        running(processes)
