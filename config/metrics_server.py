"""The metrics server of a process: `GET /metrics` on a port of its own, safe from clients that misbehave."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Any, Final

import structlog
from prometheus_client.registry import Collector

from callboard.config.exposition import expose
from callboard.jobs.errors import Conflict

_PATH: Final = "/metrics"
#: How many connections may be open. Above that, the one that has waited longest for a request is closed.
_MAX_CONNECTIONS: Final = 32
#: A connection is closed after this time, whatever it does. Prometheus allows 10 s by default. Seconds.
_LONGEST: Final = 10.0

log = structlog.get_logger(__name__)


@contextmanager
def serving(host: str, port: int, registry: Collector) -> Iterator[None]:
    """Serve `GET /metrics` in a thread during the block.

    Port 0 takes a free port, which the log names. Raises Conflict when the address cannot be used.
    """
    try:
        server = _MetricsServer(host, port, registry)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Conflict(
            f"cannot serve metrics on {host} port {port}: {reason} (CALLBOARD_METRICS_PORT sets another port;"
            " each process of a machine needs its own)"
        ) from None
    thread = Thread(target=server.serve_forever, name="callboard-metrics", daemon=True)
    thread.start()
    log.info("metrics.serving", host=host, port=server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _MetricsServer(ThreadingHTTPServer):
    """A thread for each connection, with bounds: how many there are, and how long each lasts."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str, port: int, registry: Collector) -> None:
        [found, *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0]
        self.registry = registry
        #: One scrape is rendered at a time: rendering uses only the processor.
        self.rendering = Lock()
        self._lock = Lock()
        #: The open connections, the oldest first, and when each began.
        self._open: dict[socket.socket, float] = {}
        #: Of these, those whose request has arrived.
        self._asked: set[socket.socket] = set()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the name of the host here, which may take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def asked(self, connection: socket.socket) -> None:
        """Record that the request of a connection has arrived."""
        with self._lock:
            self._asked.add(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._open) >= _MAX_CONNECTIONS
            waiting = next((each for each in self._open if each not in self._asked), None) if full else None
            if not full or waiting is not None:
                self._open[request] = time.monotonic()
        if full:
            if waiting is None:
                self.shutdown_request(request)
                return
            self._end(waiting)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            self._asked.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End the connections that last too long. The server calls this twice a second."""
        now = time.monotonic()
        with self._lock:
            late = [each for each, began in self._open.items() if now - began > _LONGEST]
        for each in late:
            self._end(each)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the server's interface
        log.debug("metrics.connection_failed", exc_info=True)  # noqa: LOG014 - called in the handler

    def _end(self, connection: socket.socket) -> None:
        """Wake the thread of a connection. It closes the connection."""
        with self._lock:
            self._open.pop(connection, None)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request of a connection, and closes it."""

    server: _MetricsServer
    #: Of a read or a write. The server limits the whole connection.
    timeout = _LONGEST
    server_version = "callboard"
    sys_version = ""

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        self.server.asked(self.connection)
        return self._is_allowed()

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != _PATH:
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"metrics are at {_PATH}")
            return
        try:
            with self.server.rendering:
                found = expose(
                    self.server.registry,
                    accept=", ".join(self.headers.get_all("Accept", ())),
                    accept_encoding=", ".join(self.headers.get_all("Accept-Encoding", ())),
                )
        except Exception:  # a collector of the user's own may fail; the scraper learns that it did
            log.exception("metrics.failed")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain="the log has the details")
            return
        self.send_response(HTTPStatus.OK)
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)

    do_HEAD = do_GET  # noqa: N815 - the name is the library's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        log.debug("metrics.request", line=format % args)

    def _is_allowed(self) -> bool:
        if self.command in {"GET", "HEAD"}:
            return True
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False
