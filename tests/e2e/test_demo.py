"""`make demo` succeeds on servers of its own and on given ones, shows what ran, and leaves nothing running."""

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


def demo(environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
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
def test_the_demo_succeeds_on_servers_of_its_own(environment):
    with demo(environment) as process:
        output = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 0, output
    check(output)
    assert not list(Path(environment["TMPDIR"]).iterdir())
    assert nothing_left(environment)


@pytest.mark.timeout(300)
@pytest.mark.long
def test_the_demo_succeeds_on_given_servers_and_leaves_only_rows(
    environment, platform, database_url, redis_url
):
    given = {"CALLBOARD_DATABASE_URL": database_url, "CALLBOARD_REDIS_URL": redis_url}
    with demo(environment | given) as process:
        output = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 0, output
    check(output)
    assert nothing_left(environment)
    with platform.database.autocommit() as connection:
        for table in ("schedules", "webhook_sources", "workers"):
            assert connection.exec_driver_sql(f"select count(*) from callboard.{table}").scalar_one() == 0
        unfinished = connection.exec_driver_sql(
            "select count(*) from callboard.jobs where finished_at is null"
        )
        assert unfinished.scalar_one() == 0


@pytest.mark.timeout(300)
def test_an_interrupted_demo_stops_what_it_started(environment):
    with demo(environment) as process:
        for line in process.stdout:
            if "Platform" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        output = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 130, output
    assert "Interrupted" in output
    assert nothing_left(environment)
