"""Enqueue over HTTP with 32 keep-alive connections, beside an endpoint of the same server that does nothing.

At the end there must be a committed job for every response. A scheduler runs beside the server and feeds the
jobs to Redis, as in production. No worker runs.
"""

import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from benchmarks import serving
from benchmarks.arena import SECRET_KEY, TIMEOUT, Arena
from benchmarks.harness import Case, Contender, Figures, Target
from benchmarks.http_load import write_requests
from callboard.jobs.webhooks.intake import source_request

CONNECTIONS: Final = 32
_WARM, _SECONDS = 1.0, 5.0
#: More requests than the generator can send per second.
_MAX_EMPTY_RATE, _MAX_RATE = 25_000, 8_000
_EMPTY: Final = b"GET /healthz HTTP/1.1\r\nhost: bench\r\n\r\n"
_SCHEDULING: Final = "SELECT FROM pg_stat_activity WHERE application_name = 'callboard scheduler'"
_WEBHOOK_SECRET: Final = "only for this benchmark"


def endpoint(status: int, requests: Callable[[Arena, int], Iterable[bytes]]) -> Contender:
    """Return a contender that sends requests. Each must get this status and create one job."""

    def measure(arena: Arena) -> Figures:
        figures, answers = _load(arena, status, requests, _MAX_RATE)
        stored = arena.sql("SELECT count(*) FROM callboard.jobs")[0][0]
        if stored != answers:
            raise RuntimeError(f"{answers} requests were accepted, but there are {stored} jobs")
        return figures

    return measure


def empty(arena: Arena) -> Figures:
    """Measure GET /healthz, which checks nothing."""
    return _load(arena, 200, lambda _arena, count: (_EMPTY for _ in range(count)), _MAX_EMPTY_RATE)[0]


def jobs(arena: Arena, count: int) -> Iterator[bytes]:
    """Return `count` requests POST /v1/jobs with a key."""
    _, token = arena.platform.auth.create("bench", "operator")
    body = json.dumps({"name": "noop", "kwargs": {}}).encode()
    return (_post("/v1/jobs", body, {"authorization": f"Bearer {token}"}) for _ in range(count))


def deliveries(arena: Arena, count: int) -> Iterator[bytes]:
    """Return `count` requests POST /webhooks/forge, signed as GitHub signs, each with its own delivery id."""
    source = {"name": "forge", "scheme": "github", "job": "pushed", "secret": _WEBHOOK_SECRET}
    arena.platform.intake(SECRET_KEY).create(source_request(source))
    return (_delivery(number) for number in range(count))


def _delivery(number: int) -> bytes:
    commit = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
    who = {"name": "Mona Lisa", "email": "mona@forge.example", "username": "mona"}
    payload = {
        "ref": "refs/heads/main",
        "before": "0" * 40,
        "after": commit,
        "repository": {"id": 1296269, "full_name": "mona/hello", "private": False},
        "pusher": who,
        "commits": [{"id": commit, "message": "Say hello", "author": who, "modified": ["README.md"]}],
    }
    body = json.dumps(payload).encode()
    signature = hmac.new(_WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "x-github-event": "push",
        "x-github-delivery": f"72d3162e-cc78-11e3-81ab-{number:012x}",
        "x-hub-signature-256": f"sha256={signature}",
    }
    return _post("/webhooks/forge", body, headers)


def _post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = {"host": "bench", "content-type": "application/json", "content-length": len(body)} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _load(
    arena: Arena, status: int, requests: Callable[[Arena, int], Iterable[bytes]], max_rate: int
) -> tuple[Figures, int]:
    """Return the generator's figures and the number of responses.

    Raise RuntimeError if a response has another status.
    """
    arena.reset()
    warm, seconds = (_WARM, _SECONDS) if not arena.quick else (0.1, 0.5)
    path = arena.folder / "requests"
    write_requests(path, requests(arena, int(max_rate * (warm + seconds))))
    with serving.api(arena) as port, arena.callboard("scheduler"):
        arena.until(lambda: arena.sql(_SCHEDULING), 60.0)
        before = arena.cpu()
        words = ["127.0.0.1", port, CONNECTIONS, warm, seconds, path]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.http_load", *map(str, words)],
            env=arena.rival_env(),
            cwd=arena.folder,
            stdout=subprocess.PIPE,
            check=True,
            timeout=TIMEOUT,
        )
        after = arena.cpu()
    figures = json.loads(done.stdout)
    statuses: dict[str, int] = figures.pop("statuses")
    if statuses.keys() != {str(status)}:
        raise RuntimeError(f"not every response has the status {status}: {statuses}")
    answers = sum(statuses.values())
    return {**figures, **arena.cpu_us(before, after, answers)}, answers


_TARGETS: Final = [Target("rate", at_least=0.6, of="empty endpoint"), Target("p99_ms", at_most=60)]
CASES = [
    Case(
        "http-jobs",
        "POST /v1/jobs at 32 connections, beside GET /healthz",
        {"callboard": endpoint(201, jobs), "empty endpoint": empty},
        _TARGETS,
        unit="req/s",
    ),
    Case(
        "http-webhook",
        "signed GitHub webhooks at 32 connections, beside /healthz",
        {"callboard": endpoint(202, deliveries), "empty endpoint": empty},
        _TARGETS,
        unit="req/s",
    ),
]
