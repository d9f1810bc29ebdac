"""The API behind nginx, which reuses its connections to the API for the requests of all clients.

A request that the API and nginx cut at different places would run as another client's request.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, product
from typing import IO, Any

import httpx
import pytest
from sqlalchemy import text

from callboard.api.http.error_responses import STATUS
from callboard.jobs.platform import Platform
from tests.e2e.stage import PATIENCE, Process, Stage, staged, until
from tests.integration.api_client import finish
from tests.system.nginx import Nginx, nginx

#: Between the head of a request and its body, which nginx then sends in a packet of its own. Seconds.
PAUSE = 0.03
#: A smuggled request runs only if it reaches the API before the answer to the first one. Seconds.
PAUSES = (0.0005, 0.001, 0.002, 0.004, PAUSE)
TRIES = 60
UPGRADES = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "Connection: keep-alive, Upgrade\r\nUpgrade: foo/2\r\n",
)
PATHS = ("/v1/jobs", "/webhooks/nobody", "/healthz", "/nowhere")


@dataclass(frozen=True)
class Front:
    """nginx, the API behind it, and the database that shows what ran."""

    stage: Stage
    api: Process
    proxy: Nginx
    token: str

    @property
    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.proxy.url, headers=headers, timeout=PATIENCE)

    def enqueue(self, n: int = 0) -> dict[str, Any]:
        """A job that has been accepted through nginx."""
        with self.client as client:
            answer = client.post("/v1/jobs", json={"name": "ledger", "kwargs": {"n": n}, "delay": "1h"})
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def job_body(self, tag: str) -> bytes:
        return json.dumps({"name": "ledger", "kwargs": {"n": 1}, "delay": "1h", "tags": [tag]}).encode()

    def head(self, body: bytes, *, path: str = "/v1/jobs", more: str = "") -> bytes:
        """The head of a POST with this body."""
        return (
            f"POST {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        ).encode()

    @contextmanager
    def connected(self) -> "Iterator[socket.socket]":
        with socket.create_connection(("127.0.0.1", self.proxy.port), timeout=PATIENCE) as connection:
            yield connection

    def sent(self, *parts: bytes) -> tuple[int, dict[str, Any]]:
        """The status and the JSON of the answer to a request that is sent in these parts."""
        with self.connected() as connection:
            for number, part in enumerate(parts):
                if number:
                    time.sleep(PAUSE)
                connection.sendall(part)
            return answer_of(connection)

    def tagged(self, tag: str) -> int:
        """How many jobs have this tag."""
        statement = text("SELECT count(*) FROM callboard.jobs WHERE :tag = ANY(tags)")
        with self.stage.platform.database.autocommit() as connection:
            number: int = connection.execute(statement, {"tag": tag}).scalar_one()
            return number


def answer_of(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of the one answer on a connection."""
    with connection.makefile("rb") as file:
        return read_answer(file)


def read_answer(file: IO[bytes]) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of the next answer."""
    status = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    if b"content-length" in headers:
        return status, json.loads(file.read(int(headers[b"content-length"])))
    body = b""
    while size := int(file.readline(), 16):
        body += file.read(size + 2)[:-2]
    file.readline()
    return status, json.loads(body)


@contextmanager
def front(stage: Stage, *, buffering: bool, **settings: object) -> "Iterator[Front]":
    api = stage.start("api", port=0, **settings)
    listening = until(lambda: not api.alive or api.events("api.listening"))
    assert api.alive, api.log.read_text()
    assert isinstance(listening, list)
    _, token = stage.platform.auth.create("front", "operator")
    with nginx(int(str(listening[0]["url"]).rpartition(":")[2]), buffering=buffering) as proxy:
        yield Front(stage, api, proxy, token)


@pytest.fixture
def stage(platform: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    with staged(platform, database_url, redis_url) as made:
        yield made


@pytest.fixture(params=[True, False], ids=["buffered", "unbuffered"])
def door(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Front]:
    with front(stage, buffering=request.param) as made:
        yield made
    # whatever came through, the API never failed
    assert not [event for event in made.api.events("http.request") if event["status"] == 500]
    assert not made.api.events("http.failed")


def test_a_job_is_accepted(door: Front) -> None:
    assert door.enqueue()["state"] == "scheduled"


def test_a_body_that_comes_later_is_read(door: Front) -> None:
    body = door.job_body("late")
    status, _ = door.sent(door.head(body), body[:10], body[10:])
    assert (status, door.tagged("late")) == (201, 1)


def test_a_request_that_offers_an_upgrade_is_answered_as_if_it_did_not(door: Front) -> None:
    body = door.job_body("upgrade")
    for upgrade in UPGRADES:
        head = door.head(body, more=upgrade)
        assert [door.sent(head + body)[0], door.sent(head, body)[0]] == [201, 201], upgrade
    assert door.tagged("upgrade") == 2 * len(UPGRADES)


def test_a_body_that_is_a_request_never_runs(door: Front) -> None:
    inner_body = door.job_body("smuggled")
    inner = door.head(inner_body) + inner_body
    mixed_up = 0
    for n, (path, upgrade) in zip(range(TRIES), cycle(product(PATHS, UPGRADES)), strict=False):
        with door.connected() as connection:
            connection.sendall(door.head(inner, path=path, more=upgrade))
            time.sleep(PAUSES[n % len(PAUSES)])
            connection.sendall(inner)
            # the next client's request gets its own answer
            mixed_up += door.enqueue(n)["kwargs"] != {"n": n}
    assert (door.tagged("smuggled"), mixed_up) == (0, 0)


def test_a_chunked_body_that_is_a_request_never_runs(door: Front) -> None:
    inner_body = door.job_body("smuggled")
    inner = door.head(inner_body) + inner_body
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    mixed_up = 0
    for n, (path, upgrade) in zip(range(TRIES), cycle(product(PATHS, UPGRADES)), strict=False):
        head = door.head(b"", path=path, more="Transfer-Encoding: chunked\r\n" + upgrade)
        with door.connected() as connection:
            connection.sendall(head.replace(b"Content-Length: 0\r\n", b""))
            time.sleep(PAUSES[n % len(PAUSES)])
            connection.sendall(chunked)
            mixed_up += door.enqueue(n)["kwargs"] != {"n": n}
    assert (door.tagged("smuggled"), mixed_up) == (0, 0)


def test_a_chunked_body_is_read(door: Front) -> None:
    body = door.job_body("chunked")
    with door.client as client:
        answer = client.post("/v1/jobs", content=iter([body[:7], body[7:]]))
    assert (answer.status_code, door.tagged("chunked")) == (201, 1)


@pytest.mark.parametrize("size", [2_000_000, 30_000_000])
def test_a_body_that_is_too_large_is_refused_with_an_answer(door: Front, size: int) -> None:
    with door.client as client:
        for path, code in (("/v1/jobs", "PAYLOAD_TOO_LARGE"), ("/webhooks/nobody", "NOT_FOUND")):
            answer = client.post(path, content=b"x" * size)
            assert answer.json()["error"]["code"] == code
            assert answer.status_code == STATUS[code]


def test_a_poll_is_answered_when_the_job_ends(door: Front, platform: Platform) -> None:
    path = f"/v1/jobs/{door.enqueue()['id']}"
    with door.connected() as connection:
        connection.sendall(
            f"GET {path}?wait=30s HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {door.token}\r\n\r\n".encode()
        )
        finish(platform, path.rpartition("/")[2])
        status, job = answer_of(connection)
    assert (status, job["state"]) == (200, "succeeded")


def test_a_client_that_hangs_up_is_no_error_of_the_server(door: Front) -> None:
    path = f"/v1/jobs/{door.enqueue()['id']}"
    with door.connected() as connection:
        connection.sendall(
            f"GET {path}?wait=60s HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {door.token}\r\n\r\n".encode()
        )
        time.sleep(PAUSE)
    until(lambda: [line for line in door.proxy.requests() if line.startswith(f"499 GET {path}")])
    until(lambda: [each for each in door.api.events("http.request") if each["path"] == path])
    assert [each["status"] for each in door.api.events("http.request") if each["path"] == path] == [499]


def test_a_client_that_hangs_up_within_its_body_enqueues_nothing(door: Front) -> None:
    body = door.job_body("half")
    with door.connected() as connection:
        connection.sendall(door.head(body) + body[:10])
        time.sleep(PAUSE)
    until(lambda: [line for line in door.proxy.requests() if not line.startswith("2")])
    door.enqueue()
    assert door.tagged("half") == 0


def test_a_client_that_expects_100_continue_gets_it(door: Front) -> None:
    body = door.job_body("expected")
    with door.connected() as connection:
        connection.sendall(door.head(body, more="Expect: 100-continue\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(body)
        assert answer_of(connection)[0] == 201
    assert door.tagged("expected") == 1


def test_pipelined_requests_are_answered_in_their_order(door: Front) -> None:
    bodies = [json.dumps({"name": "ledger", "kwargs": {"n": n}, "delay": "1h"}).encode() for n in range(3)]
    with door.connected() as connection, connection.makefile("rb") as file:
        connection.sendall(b"".join(door.head(body) + body for body in bodies))
        answers = [read_answer(file) for _ in bodies]
    assert [(status, job["kwargs"]["n"]) for status, job in answers] == [(201, 0), (201, 1), (201, 2)]


@pytest.mark.parametrize("claimed", [None, "198.51.100.7"])
def test_the_log_has_the_address_of_nginx_s_client_and_not_what_the_client_claims(
    stage: Stage, claimed: str | None
) -> None:
    with front(stage, buffering=True, trusted_proxies="127.0.0.1") as door:
        forwarded = f"X-Forwarded-For: {claimed}\r\n" if claimed else ""
        with socket.create_connection(
            ("127.0.0.1", door.proxy.port), timeout=PATIENCE, source_address=("127.0.0.2", 0)
        ) as connection:
            connection.sendall(f"GET /nowhere HTTP/1.1\r\nHost: api\r\n{forwarded}\r\n".encode())
            assert answer_of(connection)[0] == 404
        until(lambda: door.api.events("http.request"))
        assert [event["client"] for event in door.api.events("http.request")] == ["127.0.0.2"]
