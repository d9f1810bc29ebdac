"""The load generator of the HTTP benchmarks, and what becomes of an answer without a job."""

import asyncio

import pytest

from benchmarks.cases import http
from benchmarks.http_load import load, read_requests, write_requests

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def test_requests_are_read_as_they_were_written(tmp_path):
    requests = [b"GET / HTTP/1.1\r\n\r\n", b"", b"\0\0\0\x01x"]
    write_requests(tmp_path / "requests", requests)
    assert read_requests(tmp_path / "requests") == requests


async def serve(reader, writer):
    """Every fourth request is refused; answers come in two pieces."""
    answered = 0
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            answered += 1
            status = b"503 Busy" if answered % 4 == 0 else b"201 Created"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(0.001)
            writer.write(b"}")
    except asyncio.IncompleteReadError:
        writer.close()


async def loaded(requests, seconds):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        return await load("127.0.0.1", server.sockets[0].getsockname()[1], 4, 0.05, seconds, requests)


def test_every_answer_is_counted_by_its_status():
    told = asyncio.run(loaded([REQUEST] * 20_000, 2.0))
    refused, created = told["statuses"]["503"], told["statuses"]["201"]
    assert told["statuses"].keys() == {"201", "503"}
    # each of four connections has every fourth refused
    assert 3 * refused <= created <= 3 * refused + 4 * 3
    # what came while it warmed up is answered, but is not in the rate
    assert 0 < told["rate"] * 2.0 < refused + created
    assert 0 < told["p50_ms"] <= told["p99_ms"] <= told["max_ms"]


def test_too_few_requests_are_no_measurement():
    with pytest.raises(SystemExit, match="too few"):
        asyncio.run(loaded([REQUEST] * 5, 5.0))


class Kept:
    """An arena with so many jobs."""

    def __init__(self, jobs):
        self.jobs = jobs

    def sql(self, statement):
        return [(self.jobs,)]


def test_an_answer_without_a_committed_job_fails_the_round(monkeypatch):
    monkeypatch.setattr(http, "_load", lambda *given: ({"rate": 1.0}, 5))
    measure = http.endpoint(201, http.jobs)
    assert measure(Kept(5)) == {"rate": 1.0}
    with pytest.raises(RuntimeError, match="5 requests were accepted, but there are 4 jobs"):
        measure(Kept(4))
