"""All connections of a server: their number is limited, and those that wait too long are closed."""

import resource
from typing import Any, Final, Protocol

import structlog
from prometheus_client import Counter, Gauge
from uvicorn.server import ServerState

HTTP_CONNECTIONS: Final = Gauge("callboard_http_connections", "Open HTTP connections.")
HTTP_CLOSED: Final = Counter(
    "callboard_http_connections_closed_total",
    "Connections that the server closed because of a limit: head, body, idle or write (too slow),"
    " evicted (idle, and its place was needed), refused (too many connections).",
    ["reason"],
)
#: Files that the process needs for other purposes than HTTP connections: the stores, logs, modules.
OTHER_FILES: Final = 128
#: Refused connections that are still open, at most. They count as other files.
_MAX_REFUSED: Final = 48
#: The most files that the process asks for.
_MAX_FILES: Final = 65_536
_REPORT_EVERY: Final = 10.0

log = structlog.get_logger(__name__)


class TimedConnection(Protocol):
    """A connection that can be closed because of a limit."""

    def check_time(self, now: float) -> None:
        """Close the connection if the client is too slow. The server calls this about twice a second."""

    def evict(self) -> None:
        """Close the connection, which waits for a request."""


class Connections(ServerState):
    """The state that all connections of a server share. All of it is used on one event loop.

    limit:   the highest number of connections. If one more comes, the one that has waited longest for a
             request is closed. If all have requests, the new one is refused.
    waiting: the connections that wait for a request, longest first
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.connections: set[Any] = set()
        self.waiting: dict[TimedConnection, None] = {}
        #: Evicted connections whose file is still open.
        self._evicted = 0
        self._closed: dict[str, int] = {}
        self._reported_at = float("-inf")

    def admits(self, connection: TimedConnection) -> bool:
        """Return whether there is room for a connection, which is in `connections` already."""
        HTTP_CONNECTIONS.set(len(self.connections))
        if len(self.connections) <= self.limit:
            return True
        oldest = next(iter(self.waiting), None)
        if oldest is not None and oldest is not connection and self._evicted < _MAX_REFUSED:
            del self.waiting[oldest]
            # Its file is closed in the next pass of the event loop.
            self.connections.discard(oldest)
            self._evicted += 1
            self.count("evicted")
            oldest.evict()
            return True
        self.count("refused")
        return False

    @property
    def overcrowded(self) -> bool:
        """Return whether there are so many connections that one is closed without an answer."""
        return len(self.connections) > self.limit + _MAX_REFUSED

    def left(self, connection: TimedConnection) -> None:
        """Forget a connection that is closed."""
        self.waiting.pop(connection, None)
        if connection not in self.connections:
            self._evicted -= 1
        self.connections.discard(connection)
        HTTP_CONNECTIONS.set(len(self.connections))

    def count(self, reason: str) -> None:
        """Count a connection that the server closes because of a limit."""
        HTTP_CLOSED.labels(reason).inc()
        self._closed[reason] = self._closed.get(reason, 0) + 1

    def sweep(self, now: float) -> None:
        """Close the connections whose time is over; log how many were closed, at most every 10 seconds."""
        for connection in list(self.connections):
            connection.check_time(now)
        if self._closed and now - self._reported_at >= _REPORT_EVERY:
            log.warning("http.connections_closed", open=len(self.connections), **self._closed)
            self._closed = {}
            self._reported_at = now


def allowed_connections(wanted: int) -> int:
    """Raise the limit of open files as far as needed and allowed; return how many connections it permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = min(wanted + OTHER_FILES, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < needed and soft != hard:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = needed if soft == resource.RLIM_INFINITY else min(needed, soft)
    allowed = max(files - OTHER_FILES, 16)
    if allowed < wanted:
        log.warning("http.few_files", open_files=files, connections=allowed, wanted=wanted)
    return allowed
