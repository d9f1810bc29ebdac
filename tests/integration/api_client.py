"""What the tests of the HTTP door share: an app, clients with keys, a real server in a thread, job types."""

import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from sqlalchemy import text

from callboard.api.app import create_app
from callboard.api.http.server import Server
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.model.job_type import JobType
from callboard.jobs.platform import Platform

SECRET = "0123456789abcdef0123456789abcdef"


def build_report(account_id: int, month: str = "2026-10", **more: Any) -> None:
    """Build a report."""


def publish(platform: Platform) -> None:
    """Two job types as a worker publishes them: build_report (strict, reports), take_webhook (hooks)."""

    def take_webhook(event: str, delivery_id: str, payload: Any) -> None: ...

    report, webhook = describe(build_report).schema, describe(take_webhook).schema
    platform.catalogue.publish(
        [
            JobType("build_report", "reports", report, 5, 10, 600.0, "Build a report."),
            JobType("take_webhook", "hooks", webhook, 3, 4, None, ""),
        ]
    )


def build_app(platform: Platform, **options: Any) -> FastAPI:
    return create_app(platform, secret_key=SECRET, **options)


Send = Callable[..., httpx.Response]


class Caller:
    """A client that speaks with one key."""

    def __init__(self, send: Send, token: str | None) -> None:
        self._send = send
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self._headers, **options.pop("headers", {})}
        return self._send(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return self("POST", path, **({} if json is None else {"json": json}), **options)

    def enqueue(self, **request: Any) -> dict[str, Any]:
        """An accepted job of build_report."""
        answer = self.post("/v1/jobs", {"name": "build_report", "kwargs": {"account_id": 7}, **request})
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json()
        return job


class Api:
    """An app in this process, and a caller for each role."""

    def __init__(self, platform: Platform, send: Send) -> None:
        self.platform = platform
        self._send = send
        self.anonymous = Caller(send, None)
        self.viewer = self.caller("viewer")
        self.operator = self.caller("operator")
        self.admin = self.caller("admin")

    def caller(self, role: str, *, queue: str | None = None, job: str | None = None) -> Caller:
        name = "-".join(part for part in (role, queue, job) if part)
        return Caller(self._send, self.platform.auth.create(name, role, queue=queue, job=job)[1])


@contextmanager
def api_in_process(platform: Platform, **options: Any) -> Iterator[Api]:
    publish(platform)
    with start_blocking_portal() as portal:
        running = _client(build_app(platform, **options))
        with portal.wrap_async_context_manager(running) as client:
            yield Api(platform, lambda *args, **more: portal.call(partial(client.request, *args, **more)))


@asynccontextmanager
async def _client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://callboard") as client,
    ):
        yield client


@contextmanager
def api_on_a_port(
    platform: Platform,
    *,
    grace: float = 5.0,
    stop_delay: float = 0.0,
    max_connections: int = 10_000,
    tls: ssl.SSLContext | None = None,
    trusted: ssl.SSLContext | bool = True,
    **options: Any,
) -> Iterator[tuple[Api, Server]]:
    """A real server on a free port; `trusted` is the client's side of `tls`."""
    publish(platform)
    listening = threading.Event()
    server = Server(
        build_app(platform, **options),
        host="127.0.0.1",
        port=0,
        grace=grace,
        max_connections=max_connections,
        tls=tls,
        stop_delay=stop_delay,
        on_listening=lambda _url: listening.set(),
    )
    thread = threading.Thread(target=server.run_until_stopped)
    thread.start()
    try:
        assert listening.wait(60)
        with httpx.Client(base_url=server.url, timeout=60, verify=trusted) as client:
            yield Api(platform, client.request), server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def without_redis(platform: Platform) -> Iterator[Platform]:
    """A platform on the same database, whose Redis is nowhere."""
    url = platform.database.engine.url.render_as_string(hide_password=False)
    with closing(Platform(url, "redis://127.0.0.1:1/0")) as lame:
        yield lame


def finish(platform: Platform, job_id: str, state: str = "succeeded") -> None:
    """End a job as a worker would, and announce it."""
    with platform.database.transaction() as connection:
        connection.execute(
            text("UPDATE callboard.jobs SET state = :state, finished_at = now() WHERE id = :id"),
            {"state": state, "id": job_id},
        )
    platform.transport.announce([UUID(job_id)])


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer, which must be of this status and code and of the one shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) - {"fields"} == {"code", "message", "request_id"}
    assert error["code"] == code, error
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


def until(holds: Callable[[], Any]) -> None:
    """Poll for a condition, up to a minute."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
