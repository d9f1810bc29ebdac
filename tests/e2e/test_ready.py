"""Readiness of real processes: `callboard up` from an empty folder, and an API whose database hangs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.stage import own_servers, own_stage, until

#: Importing the jobs takes longer than the api takes to start.
JOBS = """
import time
import dramatiq
time.sleep({import_seconds})

@dramatiq.actor
def add(a: int, b: int) -> int:
    return a + b
"""
STARTS = 60.0


class Folder:
    """A project's folder without any data, and the means to run commands in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CALLBOARD_")},
            "CALLBOARD_PORT": self.url.rpartition(":")[2],
            "CALLBOARD_JOBS": "shop",
            "CALLBOARD_PROCESSES": "1",
            "CALLBOARD_GRACE": "1s",
        }

    def start(self, *words: str, **streams: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "callboard", *words],
            cwd=self.path, env=self.environment, stdin=subprocess.DEVNULL, text=True, **streams,
        )  # fmt: skip

    def run(self, *words: str) -> Any:
        with self.start(*words, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            out, error = process.communicate(timeout=STARTS)
        assert process.returncode == 0, error
        return json.loads(out)

    def is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        return False


@pytest.fixture
def folder() -> Iterator[Folder]:
    path = Path(tempfile.mkdtemp(prefix="callboard-ready-"))
    # root's Postgres runs as nobody, and gets through without special powers
    path.chmod(0o711)
    yield Folder(path)
    shutil.rmtree(path)


@pytest.mark.long
@pytest.mark.parametrize("import_seconds", [0, 3])
def test_a_script_that_waits_for_up_and_enqueues_at_once_is_not_refused(
    folder: Folder, import_seconds: int
) -> None:
    (folder.path / "shop.py").write_text(JOBS.format(import_seconds=import_seconds))
    folder.run("db", "upgrade")
    token = folder.run("key", "create", "script", "--role", "operator")["token"]
    with (folder.path / "log").open("w") as log:
        up = folder.start("up", stdout=log, stderr=log)
    try:
        until(lambda: folder.is_ready() or up.poll() is not None, STARTS)
        made = httpx.post(
            f"{folder.url}/v1/jobs",
            json={"name": "add", "args": [1, 2]},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert made.status_code == 201, made.text + (folder.path / "log").read_text()
        job = folder.run("job", "enqueue", "add", "--args", "[3, 4]", "--wait", "--timeout", "30s")
        assert job["result"] == 7
    finally:
        up.terminate()
        assert up.wait(STARTS) == 0


def test_up_ends_with_the_error_of_a_worker_that_cannot_start(folder: Folder) -> None:
    (folder.path / "shop.py").write_text("import nowhere_to_be_found\n")
    with folder.start("up", stderr=subprocess.PIPE) as up:
        _, error = up.communicate(timeout=STARTS)
    assert up.returncode == 2
    assert "the module 'shop' cannot be imported: ModuleNotFoundError" in error
    assert not folder.is_ready()


def test_an_api_whose_database_hangs_is_unavailable_until_it_answers_again() -> None:
    with own_servers() as servers:
        servers.postgres.ensure()
        servers.valkey.ensure()
        with own_stage(servers, servers.urls.database_url, servers.urls.redis_url) as stage:
            api = stage.start("api", port=0)
            url = until(lambda: api.events("api.listening"))[0]["url"]
            assert httpx.get(f"{url}/readyz", timeout=10).status_code == 200
            stopped = servers.postgres._processes()
            try:
                for process in stopped:
                    # a connection's process may end meanwhile
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(signal.SIGSTOP)
                until(lambda: httpx.get(f"{url}/readyz", timeout=10).status_code == 503)
                answer = httpx.get(f"{url}/readyz", timeout=10).json()
                assert answer["status"] == "unavailable"
                assert answer["checks"]["redis"] == "ok"
                assert httpx.get(f"{url}/healthz", timeout=10).status_code == 200
            finally:
                for process in stopped:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(signal.SIGCONT)
            until(lambda: httpx.get(f"{url}/readyz", timeout=10).status_code == 200)
