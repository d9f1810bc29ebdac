"""Nobody reads the log: the worker and the API go on, and stop when they are told to."""

import os
import shutil
import signal
import socket
from http.client import HTTPConnection
from threading import Thread

import orjson
import pytest

from callboard.jobs.model.states import JobState
from tests.e2e.stage import HERE, Process, Stage, until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dropped(port: int) -> float:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    rows = [row.split() for row in text.splitlines() if row.startswith("callboard_log_lines_dropped_total ")]
    return sum(float(row[1]) for row in rows)


def read_on(process: Process) -> list[bytes]:
    """Read its stderr from now on; return the list that its lines go into."""
    lines: list[bytes] = []
    assert process.stalled is not None
    Thread(target=lambda: lines.extend(iter(process.stalled.readline, b"")), daemon=True).start()
    return lines


@pytest.mark.long
def test_with_a_stalled_reader_jobs_run_time_out_and_the_worker_stops(stage: Stage) -> None:
    shutil.copy(HERE / "log_setups.py", stage.folder)
    port = free_port()
    worker = stage.start(
        "worker", stalled=True, jobs="log_setups", threads=4, processes=1, grace="2s", metrics_port=port,
        metrics_host="127.0.0.1",
    )  # fmt: skip
    until(lambda: stage.leases(worker))
    printing = stage.enqueue("prints", lines=1_000)
    ids = stage.enqueue_many("floods_the_log", 800)
    overdue = stage.enqueue("sleeps")
    for job_id in ids:
        assert stage.platform.waiting.wait(job_id, None).state is JobState.SUCCEEDED
    assert stage.platform.waiting.wait(overdue, None).state is JobState.FAILED
    # `print` holds up its own job
    assert stage.job(printing).state is JobState.RUNNING
    until(lambda: dropped(port) > 0)
    worker.send(signal.SIGTERM)
    worker.ends()
    assert stage.job(printing).state is JobState.QUEUED


@pytest.mark.long
def test_with_a_stalled_reader_the_api_answers_and_one_line_says_what_is_missing(stage: Stage) -> None:
    port = free_port()
    api = stage.start("api", stalled=True, port=port, metrics_open=True, host="127.0.0.1")
    until(lambda: answers(port))
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    while not dropped(port):
        for _ in range(500):
            connection.request("GET", "/v1/none-of-these-is-a-route-of-the-api", headers={"X-Pad": "x" * 100})
            assert connection.getresponse().read()
    lines = read_on(api)
    until(lambda: any(b"log.lines_dropped" in line for line in lines))
    api.send(signal.SIGTERM)
    assert api.ends() == 0
    events = [orjson.loads(line) for line in lines]
    [notice] = [event for event in events if event["event"] == "log.lines_dropped"]
    assert notice["level"] == "warning"
    assert notice["count"] > 0
    assert events[-1]["event"] == "api.stopping"


def answers(port: int) -> bool:
    try:
        os.close(socket.create_connection(("127.0.0.1", port), 5).detach())
    except OSError:
        return False
    return True
