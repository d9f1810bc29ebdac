"""The metrics server answers a scraper whatever other clients do."""

import socket
import time
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import Collector

from callboard.config import metrics_server
from callboard.config.metrics_server import serving
from callboard.jobs.errors import Conflict

HOST = "127.0.0.1"
#: What a test waits for at most, before it fails. Seconds.
PATIENCE = 60.0


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    Counter("seen_total", "Seen.", registry=registry).inc()
    return registry


@pytest.fixture
def port(registry):
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    with serving(HOST, port, registry):
        yield port


def ask(port, method="GET", path="/metrics", **headers):
    connection = HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer
    finally:
        connection.close()


def test_it_serves_the_metrics_of_its_registry(port):
    status, body, answer = ask(port)
    assert (status, answer.getheader("Content-Type")) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"seen_total 1.0\n" in body
    status, body, answer = ask(port, path="/metrics?x=1", Accept="application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    _, body, answer = ask(port, **{"Accept-Encoding": "gzip"})
    assert answer.getheader("Content-Encoding") == "gzip"
    assert body.startswith(b"\x1f\x8b")


def test_head_has_the_headers_of_get_and_no_body(port):
    status, body, answer = ask(port, "HEAD")
    assert (status, body) == (200, b"")
    assert int(answer.getheader("Content-Length")) == len(ask(port)[1])


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/favicon.ico", "//metricss"])
def test_other_paths_are_not_found(port, path):
    assert ask(port, path=path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_other_methods_are_not_allowed(port, method):
    status, _, answer = ask(port, method)
    assert (status, answer.getheader("Allow")) == (405, "GET, HEAD")


@pytest.mark.long
def test_silent_and_trickling_clients_do_not_keep_a_scraper_out(port):
    with ExitStack() as opened:
        for number in range(150):
            client = opened.enter_context(socket.create_connection((HOST, port), PATIENCE))
            client.sendall([b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nX-Slow: "][number % 3])
        for _ in range(3):
            assert ask(port)[0] == 200


def test_a_connection_that_lasts_too_long_is_closed(port, monkeypatch):
    with monkeypatch.context() as short, socket.create_connection((HOST, port), PATIENCE) as client:
        short.setattr(metrics_server, "_LONGEST", 0.3)
        # A byte now and then does not help.
        deadline = time.monotonic() + PATIENCE
        client.settimeout(0.05)
        closed = False
        while not closed and time.monotonic() < deadline:
            try:
                client.sendall(b"G")
                closed = client.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed
    assert ask(port)[0] == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00",
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 70_000 + b"\r\n\r\n",
    ],
)
def test_garbage_ends_only_its_own_connection(port, garbage):
    with socket.create_connection((HOST, port), PATIENCE) as client:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        try:
            while client.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert ask(port)[0] == 200


def test_a_collector_that_fails_is_a_500_and_the_next_scrape_works(port, registry):
    class Broken(Collector):
        def describe(self):
            return iter(())

        def collect(self):
            raise RuntimeError("a collector of the user's own")

    broken = Broken()
    registry.register(broken)
    assert ask(port)[0] == 500
    registry.unregister(broken)
    assert ask(port)[0] == 200


def test_a_port_that_is_taken_is_an_error_that_names_the_setting(registry, port):
    with (
        pytest.raises(Conflict, match=rf"port {port}: .*CALLBOARD_METRICS_PORT"),
        serving(HOST, port, registry),
    ):
        pass
