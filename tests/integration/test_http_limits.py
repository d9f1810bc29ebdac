"""Clients that are slow, silent, too many or gone: the server closes them, and goes on for everybody else."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from callboard.api.http import deadline, lingering
from callboard.api.http.body_budget import BodyBudget
from callboard.api.http.connections import OTHER_FILES, allowed_connections
from callboard.jobs.webhooks.intake import source_request
from tests.integration.api_client import SECRET, api_on_a_port, until
from tests.raw_http import ask, raw, taken_in

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def impatient(monkeypatch):
    """Deadlines that are short enough for a test."""
    monkeypatch.setattr(deadline, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(deadline, "BODY_SECONDS", 0.4)
    monkeypatch.setattr(deadline, "IDLE_SECONDS", 0.4)
    monkeypatch.setattr(lingering, "WRITE_SECONDS", 0.4)
    monkeypatch.setattr(lingering, "LINGER_SECONDS", 0.4)


@contextmanager
def served(platform, **options) -> Iterator[tuple]:
    with api_on_a_port(platform, **options) as (api, server):
        key = b"Authorization: " + api.operator._headers["Authorization"].encode() + b"\r\n"
        yield api, server, key


def closed(reason):
    return REGISTRY.get_sample_value("callboard_http_connections_closed_total", {"reason": reason}) or 0


def post(key, length, path=b"/v1/jobs"):
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head + key + b"Content-Length: %d\r\n\r\n" % length


def test_a_silent_connection_is_closed(platform, impatient):
    before = closed("head")
    with served(platform) as (_, server, _), raw(server) as silent:
        assert silent.closed()
        until(lambda: closed("head") == before + 1)
        assert ask(server, HEALTH).status == 200


def test_a_slow_head_is_answered_with_408(platform, impatient):
    with served(platform) as (_, server, _):
        for start in (b"GET", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"):
            with raw(server) as slow:
                slow.send(start)
                answer = slow.answer()
                assert (answer.status, answer.error["code"]) == (408, "TIMEOUT")
                assert slow.closed()


def test_a_head_that_drips_has_no_more_time_than_one_that_stops(platform, impatient):
    with served(platform) as (_, server, _), raw(server) as slow:
        slow.socket.settimeout(0.05)
        slow.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        received = b""
        for _ in range(200):
            slow.send(b"X")
            try:
                received = slow.socket.recv(100)
                break
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_is_answered_with_408_and_logged_as_such(platform, impatient):
    with capture_logs() as logs, served(platform) as (_, server, key), raw(server) as slow:
        slow.send(post(key, 1000) + b"{")
        answer = slow.answer()
        assert (answer.status, answer.error["code"]) == (408, "TIMEOUT")
        assert slow.closed()
    [line] = [line for line in logs if line["event"] == "http.request"]
    assert (line["status"], line["log_level"]) == (408, "info")


def test_a_large_body_has_more_time_as_long_as_it_arrives(platform, impatient, monkeypatch):
    monkeypatch.setattr(deadline, "BODY_RATE", 1000)
    with served(platform) as (_, server, key), raw(server) as steady:
        body = json.dumps({"name": "build_report", "kwargs": {"account_id": 1, "x": "x" * 2000}}).encode()
        steady.send(post(key, len(body)))
        pause = threading.Event()
        for start in range(0, len(body), 200):
            steady.send(body[start : start + 200])
            pause.wait(0.1)
        assert steady.answer().status == 201


def test_a_kept_connection_is_closed_when_it_is_idle(platform, impatient):
    before = closed("idle")
    with served(platform) as (_, server, _), raw(server) as kept:
        kept.send(HEALTH)
        assert kept.answer().status == 200
        assert kept.closed()
        until(lambda: closed("idle") == before + 1)


def test_a_long_poll_is_not_idle(platform, impatient):
    with served(platform) as (api, server, key), raw(server) as poll:
        job = api.operator.enqueue(delay="1h")
        poll.send(f"GET /v1/jobs/{job['id']}?wait=2s HTTP/1.1\r\nHost: x\r\n".encode() + key + b"\r\n")
        answer = poll.answer()
        assert (answer.status, json.loads(answer.body)["id"]) == (200, job["id"])


def test_a_client_that_does_not_read_its_answers_is_cut_off(platform, impatient):
    before = closed("write")
    with served(platform) as (_, server, _), raw(server) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000)
        until(lambda: closed("write") == before + 1)
        assert ask(server, HEALTH).status == 200


@pytest.mark.parametrize("start", [b"", b"GET", HEALTH])
def test_at_the_limit_a_waiting_connection_makes_room(platform, start):
    before = closed("evicted")
    with served(platform, max_connections=20) as (_, server, _), ExitStack() as opened:
        crowd = [opened.enter_context(raw(server)) for _ in range(20)]
        for one in crowd:
            one.send(start)
            if start == HEALTH:
                assert one.answer().status == 200
        until(lambda: len(server.server_state.connections) == 20)
        for _ in range(5):
            assert ask(server, HEALTH).status == 200
        assert crowd[0].closed()
        assert closed("evicted") > before


def test_at_the_limit_of_running_requests_a_new_connection_gets_503(platform):
    with served(platform, max_connections=16) as (api, server, key), ExitStack() as opened:
        job = api.operator.enqueue(delay="1h")
        poll = f"GET /v1/jobs/{job['id']}?wait=20s HTTP/1.1\r\nHost: x\r\n".encode() + key + b"\r\n"
        crowd = [opened.enter_context(raw(server)) for _ in range(16)]
        for one in crowd:
            one.send(poll)
        until(lambda: sum(map(len, platform.waiting._waiters.values())) == 16)
        for _ in range(3):
            answer = ask(server, HEALTH)
            assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"
        crowd[3].socket.close()
        until(lambda: ask(server, HEALTH).status == 200)


def test_the_limit_of_connections_fits_the_limit_of_open_files(monkeypatch):
    limits = [(1024, 1024)]
    monkeypatch.setattr("resource.getrlimit", lambda _which: limits[-1])
    monkeypatch.setattr("resource.setrlimit", lambda _which, limit: limits.append(limit))
    assert allowed_connections(10_000) == 1024 - OTHER_FILES
    assert limits == [(1024, 1024)]
    limits[:] = [(1024, 4096)]
    assert allowed_connections(10_000) == 4096 - OTHER_FILES
    assert limits[-1] == (4096, 4096)
    limits[:] = [(1024, -1)]
    assert allowed_connections(10_000) == 10_000
    assert limits[-1] == (10_000 + OTHER_FILES, -1)
    limits[:] = [(65_536, 65_536)]
    assert allowed_connections(500) == 500
    assert limits == [(65_536, 65_536)]


@pytest.mark.parametrize("bulk", [b"0\r\nX-Trailer: ", b"3;extension="])
def test_trailers_and_chunk_extensions_without_end_are_cut_off(platform, bulk):
    with served(platform) as (_, server, key), raw(server) as endless:
        endless.send(post(key, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + bulk)
        assert taken_in(endless.socket, b"x" * 65_536) < 50_000_000


def test_trailers_and_chunk_extensions_over_the_limit_are_refused_by_name(platform):
    with served(platform) as (_, server, key):
        for start in (b"0\r\nX-Trailer: ", b"3;extension="):
            with raw(server) as large:
                large.send(post(key, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + start)
                for _ in range(8):
                    large.send(b"x" * 40_000)
                answer = large.answer()
                assert (answer.status, answer.error["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.long
def test_all_large_bodies_together_are_limited(platform):
    with served(platform, max_body=1_000_000) as (_, server, key), ExitStack() as opened:
        budget = BodyBudget(1_000_000)
        most = budget._total // 1_000_000 + 10
        crowd = [opened.enter_context(raw(server)) for _ in range(most)]
        for one in crowd:
            one.send(post(key, 1_000_000) + b" " * 999_000)
        statuses = []
        for one in crowd:
            one.socket.settimeout(0.5)
            try:
                statuses.append(one.answer().status)
            except TimeoutError:
                continue
        assert set(statuses) == {503}
        assert 5 <= len(statuses) <= 20
        # a small body has room
        small = b'{"name": "build_report", "kwargs": {"account_id": 1}}'
        assert ask(server, post(key, len(small)) + small).status == 201
        for one in crowd:
            one.socket.close()
        until(lambda: not [task for task in server.server_state.tasks if not task.done()])
        large = json.dumps({"name": "build_report", "kwargs": {"account_id": 1, "x": "x" * 900_000}}).encode()
        assert ask(server, post(key, len(large)) + large).status == 201


@pytest.mark.long
def test_large_bodies_of_webhooks_keep_no_body_with_a_key_out(platform):
    with served(platform, max_body=1_000_000) as (_, server, key), ExitStack() as opened:
        source = {"name": "forge", "scheme": "github", "job": "take_webhook"}
        platform.intake(SECRET).create(source_request(source))
        most = BodyBudget(1_000_000)._total // 1_000_000 + 10
        crowd = [opened.enter_context(raw(server)) for _ in range(most)]
        for one in crowd:
            one.send(post(b"", 1_000_000, b"/webhooks/forge") + b" " * 999_000)
        answers = []
        for one in crowd:
            one.socket.settimeout(0.5)
            with suppress(TimeoutError):
                answers.append(one.answer().status)
        assert set(answers) == {503}
        large = json.dumps({"name": "build_report", "kwargs": {"account_id": 1, "x": "x" * 900_000}}).encode()
        assert ask(server, post(key, len(large)) + large).status == 201


def hang_up(one):
    """Reset the connection."""
    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.socket.close()


@pytest.mark.parametrize("end", [hang_up, lambda one: one.socket.close()])
def test_a_client_that_hangs_up_is_no_error_of_the_server(platform, end):
    with capture_logs() as logs, served(platform) as (api, server, key):
        job = api.operator.enqueue(delay="1h")
        with raw(server) as gone:
            gone.send(post(key, 1000) + b"{")
            until(lambda: server.server_state.tasks)
            end(gone)
        with raw(server) as gone:
            gone.send(f"GET /v1/jobs/{job['id']}?wait=20s HTTP/1.1\r\nHost: x\r\n".encode() + key + b"\r\n")
            until(lambda: platform.waiting._waiters)
            end(gone)
        until(lambda: len([line for line in logs if line.get("status") == 499]) == 2)
        assert ask(server, HEALTH).status == 200
    assert {line["log_level"] for line in logs if line.get("status") == 499} == {"info"}
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []


@pytest.mark.parametrize("end", [hang_up, lambda one: one.socket.close()])
def test_a_client_that_hangs_up_in_the_middle_of_an_answer_is_no_error_of_the_server(platform, caplog, end):
    with capture_logs() as logs, served(platform) as (api, server, key):
        for _ in range(40):
            api.operator.enqueue(kwargs={"account_id": 1, "x": "x" * 100_000})
        for _ in range(5):
            with raw(server) as gone:
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                gone.send(b"GET /v1/jobs?limit=200 HTTP/1.1\r\nHost: x\r\n" + key + b"\r\n")
                assert gone.socket.recv(1000).startswith(b"HTTP/1.1 200")
                end(gone)
        until(lambda: not server.server_state.tasks)
        assert ask(server, HEALTH).status == 200
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


def test_an_unexpected_error_is_logged_once_with_its_traceback(platform, caplog, monkeypatch):
    def fail(*_args, **_options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(platform.jobs, "page", fail)
    with capture_logs() as logs, served(platform) as (api, _, _):
        assert api.viewer.get("/v1/jobs").json()["error"]["code"] == "INTERNAL_ERROR"
    assert len([line for line in logs if line["event"] == "http.failed"]) == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_pipelined_flood_is_read_only_as_fast_as_it_is_answered(platform):
    with served(platform) as (_, server, _), raw(server) as flood:
        flood.send(HEALTH * 2_000)
        assert {flood.answer().status for _ in range(2_000)} == {200}


def test_requests_that_wait_for_answers_are_not_read_into_memory(platform):
    with served(platform) as (api, server, key), raw(server) as flood:
        job = api.operator.enqueue(delay="1h")
        flood.send(f"GET /v1/jobs/{job['id']}?wait=2s HTTP/1.1\r\nHost: x\r\n".encode() + key + b"\r\n")
        flood.send(HEALTH * 20_000)
        until(lambda: platform.waiting._waiters)
        [connection] = [one for one in server.server_state.connections if one.pipeline]
        assert len(connection.pipeline) < 200
        assert flood.answer().status == 200
        assert {flood.answer().status for _ in range(20_000)} == {200}
        until(lambda: not connection.pipeline)


def test_a_stop_refuses_unfinished_uploads_and_logs_no_error(platform, caplog):
    with capture_logs() as logs, served(platform) as (_, server, key), ExitStack() as opened:
        uploads = [opened.enter_context(raw(server)) for _ in range(3)]
        for one in uploads:
            one.send(post(key, 1000) + b"{")
        until(lambda: len(server.server_state.tasks) == 3)
        server.stop()
        for one in uploads:
            answer = one.answer()
            assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
            one.socket.close()
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
