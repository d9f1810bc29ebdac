"""A cheap load generator for HTTP: raw sockets on uvloop, and requests that are prepared in a file.

Each connection sends its next request when it has the response to the last one. The generator is a process of
its own, which competes with the server for the machine's cores as a real client does:

    python -m benchmarks.http_load HOST PORT CONNECTIONS WARM_SECONDS SECONDS FILE

FILE holds the requests, each after its length in four bytes. The output is one JSON line: requests per
second, latencies in milliseconds, and the number of responses by status. The rate and the latencies are of
the responses that came within SECONDS, the statuses of all responses.
"""

import asyncio
import re
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

import orjson
import uvloop

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SIZE: Final = struct.Struct(">I")


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    """Write the file that the generator reads."""
    with path.open("wb") as file:
        for request in requests:
            file.write(_SIZE.pack(len(request)) + request)


def read_requests(path: Path) -> list[bytes]:
    """Return the requests of a file that `write_requests` wrote."""
    raw, at, requests = path.read_bytes(), 0, []
    while at < len(raw):
        (size,) = _SIZE.unpack_from(raw, at)
        requests.append(raw[at + _SIZE.size : at + _SIZE.size + size])
        at += _SIZE.size + size
    return requests


class Run:
    """The requests that are left to send, and the responses: (time, seconds, status)."""

    def __init__(self, requests: Iterator[bytes], until: float) -> None:
        self.requests = requests
        self.until = until
        self.answers: list[tuple[float, float, bytes]] = []
        self.ran_out = False


class Connection(asyncio.Protocol):
    """A keep-alive connection that waits for one response at a time."""

    def __init__(self, run: Run, ended: "asyncio.Future[None]") -> None:
        self._run = run
        self._ended = ended
        self._received = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send(perf_counter())

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(received, 0, head + 2)
        if length is None:
            self.connection_lost(ConnectionError("a response has no content-length"))
            return
        if len(received) < head + 4 + int(length[1]):
            return
        now = perf_counter()
        self._run.answers.append((now, now - self._sent, received[9:12]))
        self._received = b""
        self._send(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(exc or ConnectionError("the server closed a connection"))

    def _send(self, now: float) -> None:
        request = next(self._run.requests, None) if now < self._run.until else None
        if request is None:
            self._run.ran_out |= now < self._run.until
            self._ended.set_result(None)
            self._transport.close()
            return
        self._sent = now
        self._transport.write(request)


async def load(
    host: str, port: int, connections: int, warm: float, seconds: float, requests: list[bytes]
) -> dict[str, object]:
    """Send for `warm` + `seconds` and return the figures. Responses in the `warm` seconds do not count."""
    loop = asyncio.get_running_loop()
    started = perf_counter() + warm
    run = Run(iter(requests), started + seconds)
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(connections)]
    await asyncio.gather(*(loop.create_connection(partial(Connection, run, end), host, port) for end in ends))
    await asyncio.gather(*ends)
    if run.ran_out:
        raise SystemExit(f"{len(requests):,} requests are too few for {warm + seconds} s")
    counted = [answer for answer in run.answers if started <= answer[0] < run.until]
    spans = sorted(span * 1000 for _, span, _ in counted)
    return {
        "rate": len(counted) / seconds,
        **{f"p{share}_ms": spans[min(len(spans) - 1, len(spans) * share // 100)] for share in (50, 95, 99)},
        "max_ms": spans[-1],
        "statuses": Counter(status.decode() for _, _, status in run.answers),
    }


def main() -> None:
    host, port, connections, warm, seconds, path = sys.argv[1:]
    requests = read_requests(Path(path))
    measured = uvloop.run(load(host, int(port), int(connections), float(warm), float(seconds), requests))
    sys.stdout.buffer.write(orjson.dumps(measured) + b"\n")


if __name__ == "__main__":
    main()
