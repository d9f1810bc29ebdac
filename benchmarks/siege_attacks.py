"""The attacks of the siege: many connections to one port of this machine that hold a server's resources.

As a program it runs one attack and prints one JSON document: how many connections got which answer.

    python -m benchmarks.siege_attacks NAME PORT TOKEN SOCKETS SECONDS
"""

import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

#: No attack opens more sockets, or lasts longer. Seconds.
MAX_SOCKETS: Final = 1_100
MAX_SECONDS: Final = 60.0
_MB: Final = 1_000_000
_HUGE: Final = 19 * _MB
_PIECE: Final = 64 * 1024
_CONNECT_TIMEOUT: Final = 10.0
#: The source of webhooks that exists.
KNOWN_SOURCE: Final = "forge"

#: Writes to one connection. It gets the seconds that the attack lasts.
Write = Callable[[asyncio.StreamWriter, float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Attack:
    """Connections that all write the same, and stay open.

    reads: the answers are read. Otherwise the server cannot send them.
    """

    name: str
    about: str
    sockets: int
    seconds: float
    write: Write
    reads: bool = True

    def __post_init__(self) -> None:
        if self.sockets > MAX_SOCKETS or self.seconds > MAX_SECONDS:
            raise ValueError(f"{self.name} has too many sockets or lasts too long")


def attacks(token: str) -> list[Attack]:
    """Return all attacks. token: an API key that may enqueue."""
    key = f"Authorization: Bearer {token}\r\n"
    signed = (
        "X-GitHub-Event: push\r\nX-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\n"
        f"X-Hub-Signature-256: sha256={'0' * 64}\r\n"
    )
    chunked = _head("/v1/jobs", key + "Transfer-Encoding: chunked\r\n")
    many = b"GET /openapi.json HTTP/1.1\r\nHost: siege\r\n\r\n" * 100
    return [
        Attack("silent", "1,050 sockets that send nothing", 1_050, 30, _silent),
        Attack("slow-heads", "500 heads, 1 byte a second", 500, 60, _slow_head),
        Attack("bodies-unknown", "300 bodies without their last byte, unknown source", 300, 30,
               _unfinished("/webhooks/nobody", signed)),
        Attack("bodies-known", "300 such bodies, known source", 300, 30,
               _unfinished(f"/webhooks/{KNOWN_SOURCE}", signed)),
        Attack("bodies-jobs", "300 such bodies to /v1/jobs, right key", 300, 30,
               _unfinished("/v1/jobs", key)),
        Attack("trailers", "19 MB of trailers", 1, 20,
               _endless(chunked + b"1\r\n{\r\n0\r\n", b"X-Trailer: " + b"y" * 87 + b"\r\n")),
        Attack("extension", "a chunk extension of 19 MB", 1, 20, _endless(chunked + b"1;x=", b"y" * 100)),
        Attack("head", "a head of 19 MB", 1, 20,
               _endless(_head("/v1/jobs", key)[:-2], b"X-Field: " + b"y" * 89 + b"\r\n")),
        Attack("unread", "300 x 100 requests, no answer read", 300, 30,
               partial(_write_all, many), reads=False),
    ]  # fmt: skip


def run(attack: Attack, port: int) -> Counter[str]:
    """Attack the port of this machine. Return what the server did with each connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_SOCKETS + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))
    return asyncio.run(_run(attack, port))


async def _run(attack: Attack, port: int) -> Counter[str]:
    until = asyncio.get_running_loop().time() + attack.seconds
    return Counter(await asyncio.gather(*(_connection(attack, port, until) for _ in range(attack.sockets))))


async def _connection(attack: Attack, port: int, until: float) -> str:
    """Return the status of the answer, or what became of the connection."""
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return "refused"
    writing = asyncio.ensure_future(attack.write(writer, attack.seconds))
    try:
        async with asyncio.timeout_at(until):
            if not attack.reads:
                await asyncio.Event().wait()
            answer = await reader.read(_PIECE)
            while await reader.read(_PIECE):
                pass
            return answer[9:12].decode("latin-1") if answer else "closed"
    except TimeoutError:
        return "open"
    except OSError:
        return "reset"
    finally:
        writing.cancel()
        with suppress(OSError, asyncio.CancelledError):
            await writing
        writer.transport.abort()


async def _silent(_writer: asyncio.StreamWriter, _seconds: float) -> None:
    pass


async def _slow_head(writer: asyncio.StreamWriter, seconds: float) -> None:
    head = _head("/v1/jobs", "X-Slow: " + "y" * 1_000)
    for place in range(int(seconds)):
        writer.write(head[place : place + 1])
        await writer.drain()
        await asyncio.sleep(1)


def _unfinished(path: str, fields: str) -> Write:
    """Send a body of 1 MB without its last byte."""
    head = _head(path, f"{fields}Content-Length: {_MB}\r\nContent-Type: application/json\r\n")
    return partial(_write_all, head + b'{"x": "' + b"y" * (_MB - 8))


def _endless(start: bytes, piece: bytes) -> Write:
    """Send a start and then 19 MB of a repeated piece."""

    async def write(writer: asyncio.StreamWriter, _seconds: float) -> None:
        await _write_all(start, writer, _seconds)
        async for each in _repeated(piece):
            writer.write(each)
            await writer.drain()

    return write


async def _repeated(piece: bytes) -> AsyncIterator[bytes]:
    block = piece * (_PIECE // len(piece))
    for _ in range(_HUGE // len(block)):
        yield block


async def _write_all(data: bytes, writer: asyncio.StreamWriter, _seconds: float) -> None:
    for start in range(0, len(data), _PIECE):
        writer.write(data[start : start + _PIECE])
        await writer.drain()


def _head(path: str, fields: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: siege\r\n{fields}\r\n".encode()


def main() -> None:
    name, port, token, sockets, seconds = sys.argv[1:]
    attack = next(attack for attack in attacks(token) if attack.name == name)
    attack = replace(attack, sockets=int(sockets), seconds=float(seconds))
    print(json.dumps(run(attack, int(port))))


if __name__ == "__main__":
    main()
