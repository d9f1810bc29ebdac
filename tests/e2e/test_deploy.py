"""Deploys forth and back under load: no enqueue is refused that a live version accepts, and no job fails."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from sqlalchemy import text

from callboard.jobs.model.states import JobState
from tests.e2e.stage import PATIENCE, Process, Stage, until

#: Seconds.
DRAINED_WITHIN = 240.0
#: The jobs of each version: one gets a new argument, one loses one, one renames one.
JOBS = {
    1: """
from callboard import RetryPolicy, job

ONCE = RetryPolicy(max_attempts=1)

@job(retry=ONCE)
def deployed_add(order: int) -> str:
    return "v1"

@job(retry=ONCE)
def deployed_remove(order: int, note: str) -> str:
    return "v1"

@job(retry=ONCE)
def deployed_rename(order: int, to: str) -> str:
    return "v1"
""",
    2: """
from callboard import RetryPolicy, job

ONCE = RetryPolicy(max_attempts=1)

@job(retry=ONCE)
def deployed_add(order: int, tone: int) -> str:
    return "v2"

@job(retry=ONCE)
def deployed_remove(order: int) -> str:
    return "v2"

@job(retry=ONCE)
def deployed_rename(order: int, recipient: str) -> str:
    return "v2"
""",
}
CALLS = {
    1: {
        "deployed_add": {"order": 1},
        "deployed_remove": {"order": 1, "note": "x"},
        "deployed_rename": {"order": 1, "to": "ada"},
    },
    2: {
        "deployed_add": {"order": 1, "tone": 2},
        "deployed_remove": {"order": 1},
        "deployed_rename": {"order": 1, "recipient": "ada"},
    },
}
#: A web process: it enqueues by each of Python's doors until it is stopped, and prints what was refused.
WEB = """
import json, os, signal, sys, time
import {module} as jobs
from callboard import Client

calls, pause = json.loads(sys.argv[1]), float(sys.argv[2])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
done, refused = 0, []
with Client.from_env() as client:
    while not stop:
        for name, kwargs in calls.items():
            actor = getattr(jobs, name)
            for enqueue in (lambda: client.enqueue(name, kwargs), lambda: actor.enqueue(**kwargs),
                            lambda: actor.send(**kwargs)):
                try:
                    enqueue()
                    done += 1
                except Exception as error:
                    refused.append(f"{{name}}: {{type(error).__name__}}: {{error}}")
        if done == 9:
            open(sys.argv[3], "w").close()
        time.sleep(pause)
print(json.dumps({{"done": done, "refused": refused}}))
"""


@contextmanager
def web(stage: Stage, version: int, pause: float) -> Iterator[Callable[[], dict]]:
    """A web process of a version, which runs; the function stops it and returns what it saw."""
    module = f"deployed_v{version}"
    started = stage.folder / f"web-{version}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-c", WEB.format(module=module), json.dumps(CALLS[version]), str(pause), str(started)],
        cwd=stage.folder, env=stage.environment(jobs=module), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def stop() -> dict:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=PATIENCE)
        return json.loads(out.splitlines()[-1])

    try:
        until(lambda: started.exists() or process.poll() is not None)
        yield stop
    finally:
        process.kill()
        process.wait()


class Http(threading.Thread):
    """Enqueues over HTTP with the arguments of the versions that are on, until it is stopped."""

    def __init__(self, url: str, token: str, pause: float) -> None:
        super().__init__()
        self.versions: set[int] = set()
        self.refused: list[str] = []
        self.done = 0
        self._url, self._token, self._pause = urlsplit(url).netloc, token, pause
        self._stopping = threading.Event()

    def run(self) -> None:
        connection = HTTPConnection(self._url, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        while not self._stopping.wait(self._pause):
            for version in tuple(self.versions):
                for name, kwargs in CALLS[version].items():
                    connection.request(
                        "POST", "/v1/jobs", json.dumps({"name": name, "kwargs": kwargs}), headers
                    )
                    answer = connection.getresponse()
                    body = answer.read().decode()
                    self.done += 1
                    if answer.status != 201 and version in self.versions:
                        self.refused.append(f"v{version} {name}: {answer.status} {body}")

    def stop(self) -> None:
        self._stopping.set()
        self.join(PATIENCE)


def kill_a_child(worker: Process) -> None:
    """kill -9 the newest of the worker's children. The oldest may be its fork server."""
    children = psutil.Process(worker.pid).children()
    with suppress(psutil.NoSuchProcess):
        max(children, key=psutil.Process.create_time).kill()


def unfinished(stage: Stage, version: int) -> int:
    """How many jobs with the arguments of a version have not ended."""
    statement = text(
        "SELECT count(*) FROM callboard.jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'quarantined')"
        " AND (name, kwargs) IN (SELECT key, value FROM jsonb_each(CAST(:calls AS jsonb)))"
    )
    with stage.platform.database.autocommit() as connection:
        return connection.execute(statement, {"calls": json.dumps(CALLS[version])}).scalar_one()


def drain(stage: Stage, version: int) -> None:
    """Wait until no job of a version is unfinished. Workers of both versions pass jobs on for a while."""
    deadline = time.monotonic() + DRAINED_WITHIN
    while unfinished(stage, version):
        assert time.monotonic() < deadline, stage.states()
        time.sleep(0.1)


def deploy(stage: Stage, *, pause: float, hold: float, kills: int) -> None:
    """Deploy v1, v2 and v1 again under load; `hold` is how long each phase lasts."""
    for version, source in JOBS.items():
        Path(stage.folder / f"deployed_v{version}.py").write_text(source)
    stage.start("scheduler")
    old = stage.worker(jobs="deployed_v1", processes=2)
    api = stage.start("api", port=0)
    url = str(until(lambda: api.events("api.listening"))[0]["url"])
    http = Http(url, stage.platform.auth.create("deploys", "operator")[1], pause)
    http.versions = {1}
    http.start()
    try:
        with web(stage, 1, pause) as stop_v1, web(stage, 2, pause) as stop_v2:
            # The new web processes run before any new worker. The command makes HTTP accept their arguments.
            done = subprocess.run(
                [sys.executable, "-m", "callboard", "job", "publish"], cwd=stage.folder, check=False,
                env=stage.environment(jobs="deployed_v2"), capture_output=True, text=True, timeout=PATIENCE,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            http.versions = {1, 2}
            new = stage.worker(jobs="deployed_v2", processes=2)
            for _ in range(kills):
                kill_a_child(old)
                kill_a_child(new)
                time.sleep(hold)
            # The deploy is taken back: the new callers stop, then the new workers.
            seen_v2 = stop_v2()
            http.versions = {1}
            drain(stage, 2)
            new.send(signal.SIGTERM)
            time.sleep(hold)
            kill_a_child(old)
            time.sleep(hold)
            seen_v1 = stop_v1()
    finally:
        http.stop()
    assert seen_v1["refused"] == seen_v2["refused"] == http.refused == []
    assert min(seen_v1["done"], seen_v2["done"], http.done) > 9
    drain(stage, 1)
    assert set(stage.states()) == {str(JobState.SUCCEEDED)}


@pytest.mark.long
def test_a_deploy_that_is_taken_back_refuses_nothing_and_fails_nothing(stage: Stage) -> None:
    deploy(stage, pause=2.0, hold=1.0, kills=1)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_deploys_under_load_refuse_nothing_and_fail_nothing(stage: Stage) -> None:
    deploy(stage, pause=0.2, hold=3.0, kills=4)


def test_on_a_fresh_installation_a_job_is_enqueued_before_any_worker_and_then_runs(stage: Stage) -> None:
    (stage.folder / "deployed_v1.py").write_text(
        JOBS[1].replace("job(retry=ONCE)", "job(retry=ONCE, queue='async')")
    )
    with stage.platform.database.transaction() as connection:
        connection.execute(text("TRUNCATE callboard.job_types, callboard.queues CASCADE"))
    with web(stage, 1, 0.2) as stop:
        seen = stop()
    assert (seen["refused"], seen["done"] >= 9) == ([], True)
    stage.start("scheduler")
    stage.worker(jobs="deployed_v1")
    until(lambda: unfinished(stage, 1) == 0)
    assert set(stage.states()) == {str(JobState.SUCCEEDED)}
