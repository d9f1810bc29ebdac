"""`make demo` succeeds whatever the shell sets, shows what ran, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 240
DOORS = ("command line", "HTTP", "webhook", "SQL", "Dramatiq", "Python", "schedule")


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CALLBOARD_")}
    # what it leaves in there, it leaves behind
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o711)
    tmp_path.chmod(0o711)
    return kept | {"TMPDIR": str(folder)}


def demo(environment: dict[str, str], folder: Path = ROOT) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo"], cwd=folder, env=environment | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def left(folder: str) -> list[str]:
    """Processes whose environment says that they belong to this demo."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def nothing_left(environment: dict[str, str]) -> bool:
    """Whether nothing runs any more; a process that has been told to end, or whose parent has gone, may take
    a moment.
    """
    deadline = time.monotonic() + 30
    while left(environment["TMPDIR"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left(environment["TMPDIR"])


def check(output: str) -> None:
    for door in DOORS:
        assert re.search(rf"^ +{door} .* succeeded ", output, re.MULTILINE), output
    assert re.search(r"Python +count_primes +succeeded +2,000 ", output), output
    assert re.search(r"SQL +flaky +succeeded +1 +2 ", output), output
    assert re.search(r"All 2,\d\d\d jobs through 7 doors succeeded", output), output


@pytest.mark.timeout(300)
def test_the_demo_ignores_the_settings_around_it_and_leaves_nothing_behind(environment, tmp_path):
    """They name a database that is not there, jobs that are not there, and a key that is no setting."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "callboard.toml").write_text('queues = "none"\nnonsense = 1\n')
    shell = {
        "CALLBOARD_DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "CALLBOARD_JOBS": "nowhere",
        "CALLBOARD_COLOUR": "red",
        "CALLBOARD_SCHEMA": "other",
    }
    with demo(environment | shell, folder) as process:
        output = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 0, output
    check(output)
    assert [path.name for path in folder.iterdir()] == ["callboard.toml"]
    assert not list(Path(environment["TMPDIR"]).iterdir())
    assert nothing_left(environment)


@pytest.mark.timeout(300)
@pytest.mark.long
def test_an_interrupted_demo_stops_what_it_started(environment):
    with demo(environment) as process:
        for line in process.stdout:
            if "Platform" in line:
                break
        for _ in range(2):
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.5)
        output = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 130, output
    assert "Interrupted" in output
    assert nothing_left(environment)
    assert not list(Path(environment["TMPDIR"]).iterdir())
