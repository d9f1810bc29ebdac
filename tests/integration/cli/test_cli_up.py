"""`callboard up`, whole: real processes on real servers; and commands that bring their own servers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import pytest

from callboard.cli.console.platform_is_up import command_name
from callboard.cli.up import _children
from callboard.config.settings import Settings

DEADLINE = 60.0
MODULE = """
import dramatiq

@dramatiq.actor
def add(a: int, b: int) -> int:
    return a + b
"""


def until(condition) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def up(callboard, tmp_path):
    """A running `callboard up` with one worker process and a job of its own; (process, what it said when
    ready).
    """
    (tmp_path / "shop.py").write_text(MODULE)
    settings = {**callboard.settings, "port": "0", "processes": "1", "jobs": "shop", "grace": "5s"}
    env = {key: value for key, value in os.environ.items() if not key.startswith("CALLBOARD_")}
    env |= {f"CALLBOARD_{key.upper()}": value for key, value in settings.items()}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "callboard", "up", "--json"], cwd=tmp_path, env=env, stdout=subprocess.PIPE,
            stderr=log, text=True,
        )  # fmt: skip
        said = ""
        while not said.endswith("}\n"):
            line = process.stdout.readline()
            assert line, (tmp_path / "log").read_text()
            said += line
        yield process, json.loads(said)
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)
        process.stdout.close()


def test_up_runs_everything_keeps_it_alive_and_stops_it(up, callboard):
    process, ready = up
    until(lambda: healthy(ready["url"]))
    ran = callboard("job", "enqueue", "add", "--args", "[1, 2]", "--wait", "--timeout", "30s", "--json")
    assert (ran.code, ran.json["result"]) == (0, 3)
    assert callboard("doctor", "--json").json["ok"] is True

    children = {child.cmdline()[-1]: child for child in psutil.Process(process.pid).children()}
    assert set(children) == {"api", "scheduler", "worker"}
    for child in psutil.Process(process.pid).children(recursive=True):
        shown = " ".join(child.cmdline())
        assert callboard.settings["secret_key"] not in shown
        assert callboard.settings["database_url"] not in shown

    children["api"].kill()
    until(lambda: not children["api"].is_running())
    until(lambda: healthy(ready["url"]))

    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 0
    until(lambda: not any(member.is_running() for member in family))
    assert callboard("worker", "list", "--json").json["items"] == []


def test_a_port_that_is_taken_is_a_conflict_told_at_once(callboard):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = callboard("up", port=str(port))
    assert (outcome.code, outcome.out) == (5, "")
    assert outcome.error.startswith(f"cannot listen on 127.0.0.1 port {port}: Address already in use")


def test_each_process_of_up_serves_metrics_on_a_port_of_its_own(monkeypatch):
    monkeypatch.setenv("CALLBOARD_METRICS_PORT", "9100")
    ports = {
        child.name: child.environment["CALLBOARD_METRICS_PORT"]
        for child in _children(Settings(metrics_port=9100), {}, has_workers=lambda: True)
    }
    assert ports == {"scheduler": "9100", "worker": "9101", "api": "9102"}


def test_a_metrics_port_without_two_more_above_it_is_refused(callboard):
    outcome = callboard("up", metrics_port="65534")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.error.startswith("CALLBOARD_METRICS_PORT is 65534; expected at most 65533")


def test_up_without_jobs_is_refused_at_once_and_names_the_way_to_write_one(callboard):
    outcome = callboard("up", port="0", database_url="postgresql://127.0.0.1:1/x")
    assert (outcome.code, outcome.out) == (2, "")
    assert "'callboard init'" in outcome.error


def test_with_reload_only_the_worker_reloads():
    children = _children(Settings(), {}, has_workers=lambda: True, reload=True)
    assert [child.name for child in children if "--reload" in child.command] == ["worker"]


def test_reload_without_watchfiles_is_refused_at_once(callboard, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    outcome = callboard("up", "--reload", port="0", jobs="examples.jobs")
    assert (outcome.code, outcome.out) == (7, "")
    assert "pip install 'callboard[reload]'" in outcome.error


def test_the_next_steps_name_a_program_that_the_shell_finds(tmp_path, monkeypatch):
    program = tmp_path / ".venv/bin/callboard"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_name() == str(program)
    monkeypatch.chdir(tmp_path)
    assert command_name() == ".venv/bin/callboard"
    monkeypatch.setenv("PATH", str(program.parent))
    assert command_name() == "callboard"


def test_up_without_a_database_exits_with_7(callboard):
    outcome = callboard("up", port="0", jobs="examples.jobs", database_url="postgresql://127.0.0.1:1/x")
    assert (outcome.code, outcome.out) == (7, "")
    assert outcome.error.startswith("Postgres does not answer at 127.0.0.1:1/x: ")


def test_a_command_without_urls_brings_its_own_database_and_takes_it_away_again(callboard):
    folder = Path(tempfile.mkdtemp(prefix="callboard-cli-"))
    folder.chmod(0o711)
    callboard.settings.clear()
    try:
        upgraded = callboard("db", "upgrade", "--json", data_dir=str(folder / "data"))
        assert upgraded.json["up_to_date"] is True
        made = callboard("job", "enqueue", "x", "--unchecked", "--json", data_dir=str(folder / "data"))
        assert made.json["state"] == "queued"
        assert not [
            process
            for process in psutil.process_iter(["cmdline"])
            if str(folder) in " ".join(process.info["cmdline"] or [])
        ]
    finally:
        shutil.rmtree(folder)
