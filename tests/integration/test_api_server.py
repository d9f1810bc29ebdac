"""The HTTP door as a real server: sockets, group commit, long polls, shutdown."""

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import text

from callboard.api.http.server import Server
from callboard.jobs.errors import Unavailable
from tests.integration.api_client import SECRET, api_on_a_port, build_app, error_of, finish, until
from tests.raw_http import taken_in


def test_creates_that_come_together_share_transactions(platform):
    with api_on_a_port(platform) as (api, _):
        request = {"name": "build_report", "kwargs": {"account_id": 1}}
        with ThreadPoolExecutor(100) as threads:
            answers = list(threads.map(lambda _: api.operator.post("/v1/jobs", request), range(300)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 300
    with platform.database.autocommit() as connection:
        # who wrote a row that nobody has touched since
        transactions = connection.execute(
            text("SELECT count(DISTINCT xmin::text) FROM callboard.jobs")
        ).scalar_one()
    # a hundred clients in this one process are slow: few are there at the same time, but some always are
    assert transactions < 300


def test_a_poll_is_answered_when_the_job_ends(platform):
    with api_on_a_port(platform) as (api, _):
        job = api.operator.enqueue()
        with ThreadPoolExecutor(1) as threads:
            poll = threads.submit(api.viewer.get, f"/v1/jobs/{job['id']}?wait=30s")
            until(lambda: platform.waiting._waiters)
            finish(platform, job["id"])
            answer = poll.result(timeout=25)
        assert answer.json()["state"] == "succeeded"
        until(lambda: not platform.waiting._waiters)


def test_many_polls_at_once_leave_room_for_others(platform):
    with api_on_a_port(platform) as (api, _):
        jobs = [api.operator.enqueue(delay="1h") for _ in range(20)]
        with ThreadPoolExecutor(100) as threads:
            polls = [
                threads.submit(api.viewer.get, f"/v1/jobs/{jobs[n % 20]['id']}?wait=30s") for n in range(90)
            ]
            until(lambda: sum(map(len, platform.waiting._waiters.values())) == 90)
            assert api.operator.enqueue()["state"] == "queued"
            for job in jobs:
                finish(platform, job["id"], "cancelled")
            states = {poll.result(timeout=25).json()["state"] for poll in polls}
        assert states == {"cancelled"}


def test_a_poll_of_a_job_that_is_deleted_meanwhile_is_404(platform):
    with api_on_a_port(platform) as (api, _):
        job = api.operator.enqueue(delay="1h")
        with ThreadPoolExecutor(1) as threads:
            poll = threads.submit(api.viewer.get, f"/v1/jobs/{job['id']}?wait=30s")
            until(lambda: platform.waiting._waiters)
            with platform.database.transaction() as connection:
                connection.exec_driver_sql("DELETE FROM callboard.jobs")
            error_of(poll.result(timeout=25), 404, "NOT_FOUND")


def test_a_poller_that_hangs_up_is_forgotten(platform):
    with api_on_a_port(platform) as (api, server):
        job = api.operator.enqueue(delay="1h")
        token = api.viewer._headers["Authorization"]
        with socket.create_connection(("127.0.0.1", server.socket.getsockname()[1])) as connection:
            head = f"GET /v1/jobs/{job['id']}?wait=60s HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"
            connection.sendall(head.encode())
            until(lambda: platform.waiting._waiters)
        until(lambda: not platform.waiting._waiters)


def test_a_body_is_bounded_whether_or_not_it_says_its_length(platform):
    with api_on_a_port(platform, max_body=100_000) as (api, _):
        large = json.dumps(
            {"name": "build_report", "kwargs": {"account_id": 1, "x": "x" * 3_000_000}}
        ).encode()
        headers = {"Content-Type": "application/json"}
        error_of(api.operator("POST", "/v1/jobs", content=large, headers=headers), 413, "PAYLOAD_TOO_LARGE")
        chunks = (large[start : start + 65_536] for start in range(0, len(large), 65_536))
        error_of(api.operator("POST", "/v1/jobs", content=chunks, headers=headers), 413, "PAYLOAD_TOO_LARGE")
        fits = (
            json.dumps({"name": "build_report", "kwargs": {"account_id": 1, "x": "x" * 90_000}}).encode(),
            b" ",
        )
        answer = api.operator("POST", "/v1/jobs", content=iter(fits), headers=headers)
        assert answer.status_code == 201


def test_a_body_without_end_is_cut_off(platform):
    with api_on_a_port(platform, max_body=10_000) as (api, server):
        token = api.operator._headers["Authorization"]
        with socket.create_connection(
            ("127.0.0.1", server.socket.getsockname()[1]), timeout=20
        ) as connection:
            connection.sendall(
                f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            )
            assert taken_in(connection, b"10000\r\n" + b"x" * 65_536 + b"\r\n") < 100_000_000


def test_a_head_without_end_is_cut_off(platform):
    with (
        api_on_a_port(platform) as (_, server),
        socket.create_connection(("127.0.0.1", server.socket.getsockname()[1]), timeout=60) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        assert taken_in(connection, b"x" * 65_536) < 50_000_000


def test_what_is_no_http_is_answered_in_the_same_shape(platform):
    with (
        api_on_a_port(platform) as (_, server),
        socket.create_connection(("127.0.0.1", server.socket.getsockname()[1]), timeout=60) as connection,
    ):
        connection.sendall(b"NONSENSE\r\n\r\n")
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        error = json.loads(body)["error"]
        assert (error["code"], set(error)) == ("VALIDATION_ERROR", {"code", "message", "request_id"})


def test_stopping_lets_pollers_go_with_the_job_as_it_stands(platform):
    with api_on_a_port(platform) as (api, server):
        job = api.operator.enqueue(delay="1h")
        with ThreadPoolExecutor(1) as threads:
            poll = threads.submit(api.viewer.get, f"/v1/jobs/{job['id']}?wait=60s")
            until(lambda: platform.waiting._waiters)
            server.stop()
            assert poll.result(timeout=50).json() == job


def test_a_port_that_is_taken_is_named(platform):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
            Server(build_app(platform), host="127.0.0.1", port=port)


def test_the_process_ends_well_on_sigterm(platform, database_url, redis_url, tmp_path):
    program = (
        "from callboard.config.embedded import ServerUrls; from callboard.config.settings import load_settings; from callboard.api.api_process import run\n"
        "import sys, os\n"
        "urls = ServerUrls(os.environ['CALLBOARD_DATABASE_URL'], os.environ['CALLBOARD_REDIS_URL'])\n"
        "sys.exit(run(load_settings(), urls, on_listening=lambda url: print(url, flush=True)))\n"
    )
    env = {
        "CALLBOARD_DATABASE_URL": database_url,
        "CALLBOARD_REDIS_URL": redis_url,
        "CALLBOARD_SECRET_KEY": SECRET,
        "CALLBOARD_PORT": "0",
        "CALLBOARD_GRACE": "5s",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        lines = iter(process.stdout.readline, b"")
        url = next(line for line in lines if line.startswith(b"http://")).decode().strip()
        assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
