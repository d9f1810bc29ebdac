"""Connections whose calls end in time, to a server by URL or to the master that Sentinel names.

The timeout of a socket limits one read, not a whole call. A Redis that sends single bytes, or is slow at each
step of a handshake, could block a caller forever. Here the whole call has one deadline.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.redis.faults import NoMaster

#: A call that takes longer has failed. Seconds.
CALL_TIMEOUT: Final = 0.4
#: A Sentinel that takes longer is passed over. Three Sentinels fit into a call. Seconds.
_SENTINEL_TIMEOUT: Final = CALL_TIMEOUT / 3
#: The shortest timeout of a socket. A timeout of 0 would make it non-blocking. Seconds.
_LEAST: Final = 0.001
_SENTINEL_URL: Final = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<account>[^@/]*)@)?(?P<servers>[^/]*)/(?P<service>[^/?]*)(?P<rest>.*)"
)
_SENTINEL_SERVER: Final = re.compile(r"\[?(?P<host>[^\]]*?)\]?(?::(?P<port>[0-9]+))?")
_SENTINEL_PORT: Final = 26379
_SENTINEL_PREFIX: Final = "sentinel_"
#: The handshake of RESP 2 is shorter: it has no HELLO. Nothing here needs RESP 3.
_PROTOCOL: Final = 2


class _Deadline(local):
    """The deadline of this thread's call. It counts from the call's first use of a socket."""

    timeout: float | None = None
    at: float | None = None

    def left(self) -> float | None:
        """Return the seconds that are left; None outside a call."""
        if self.timeout is None:
            return None
        now = SYSTEM.monotonic()
        if self.at is None:
            self.at = now + self.timeout
        return max(self.at - now, _LEAST)


_deadline: Final = _Deadline()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give all reads and writes of the block, in this thread, one deadline."""
    _deadline.timeout, _deadline.at = seconds, None
    try:
        yield
    finally:
        _deadline.timeout = None


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Shorten the deadline for a part of a call."""
    left, before = _deadline.left(), (_deadline.timeout, _deadline.at)
    _deadline.timeout = seconds if left is None else min(seconds, left)
    _deadline.at = None
    try:
        yield
    finally:
        _deadline.timeout, _deadline.at = before


class _TimedSocket:
    """A socket whose reads and writes keep the deadline of their call."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout: float | None = CALL_TIMEOUT
        #: Whether anything was sent.
        self.asked = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def recv(self, *arguments: Any) -> bytes:
        return self._ready().recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        return self._ready().recv_into(*arguments)

    def sendall(self, data: bytes) -> None:
        self.asked = True
        self._ready().sendall(data)

    def _ready(self) -> socket.socket:
        left = _deadline.left()
        # Use the deadline of the current call, not the timeout that the socket was made with.
        self._sock.settimeout(self._timeout if left is None or self._timeout == 0 else left)
        return self._sock


if TYPE_CHECKING:
    _AnyConnection = Connection
else:
    _AnyConnection = object


class _Timed(_AnyConnection):
    """Makes connections whose sockets keep the deadline, and connects within it."""

    _connecting = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        # No CLIENT SETINFO: redis-py ignores its answer, even if the server refuses the whole connection.
        # Versions of redis-py before 8 have the other two.
        self.driver_info = self.lib_name = self.lib_version = None

    def can_read(self, timeout: float = 0) -> bool:
        readable = bool(super().can_read(timeout=timeout))
        if readable and isinstance(self._sock, _TimedSocket) and not self._sock.asked:
            # A server that speaks first refuses the connection, and this raises its words; or it is no Redis.
            self.read_response()
            raise redis.InvalidResponse("the server speaks first")
        return readable

    def _connect(self) -> Any:
        self._connecting = True
        try:
            return _TimedSocket(super()._connect())  # type: ignore[no-untyped-call]
        finally:
            self._connecting = False

    def _timeout(self) -> float:
        return (_deadline.left() if self._connecting else None) or CALL_TIMEOUT

    def _set_timeout(self, _: float | None) -> None:
        """Ignore what redis-py sets: it is CALL_TIMEOUT."""

    # redis-py reads the first one for each address of the host, and the second one for the TLS handshake. All
    # of these steps have one deadline.
    socket_connect_timeout = property(_timeout, _set_timeout)
    socket_timeout = property(_timeout, _set_timeout)


class _Tcp(_Timed, Connection): ...


class _Tls(_Timed, SSLConnection): ...


class _Unix(_Timed, UnixDomainSocketConnection): ...


class _Master(_Timed, SentinelManagedConnection): ...


class _TlsMaster(_Timed, SentinelManagedSSLConnection): ...


class _Sentinels(Sentinel):
    """The Sentinels of one URL. The one that last knew the master is asked first."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the master's address. Raises NoMaster when no Sentinel names one in time."""
        problems = []
        for sentinel in list(self.sentinels):
            try:
                with _at_most(_SENTINEL_TIMEOUT):
                    found: Any = sentinel.sentinel_get_master_addr_by_name(service_name)
                if found:
                    host, port = found
                    return host, int(port)
                problems.append(f"unknown service {service_name}")
            except Exception as error:  # noqa: BLE001 - an answer of another form causes ValueError and others
                problems.append(str(error) or type(error).__name__)
            # The next call begins with another Sentinel: this one may have cost all of the call's time.
            self._ask_last(sentinel)
        raise NoMaster("; ".join(dict.fromkeys(problems)))

    def ask_another(self) -> None:
        """Ask another Sentinel first: the server that this one named is no master, or does not answer."""
        self._ask_last(self.sentinels[0])

    def _ask_last(self, sentinel: redis.Redis) -> None:
        self.sentinels = [*(one for one in self.sentinels if one is not sentinel), sentinel]


def make_client(url: str) -> redis.Redis:
    """Return a client whose connections keep the deadline of `within`. It opens none yet."""
    by_sentinel = _SENTINEL_URL.fullmatch(url)
    if by_sentinel is not None:
        return redis.Redis(connection_pool=_sentinel_pool(by_sentinel))
    scheme = url.partition(":")[0]
    kind = {"unix": _Unix, "rediss": _Tls}.get(scheme, _Tcp)
    return redis.Redis.from_url(url, connection_class=kind, **_options(over_tcp=scheme != "unix"))


def look_elsewhere(client: redis.Redis) -> None:
    """Make the next calls connect anew, and ask another Sentinel if there are several."""
    pool = client.connection_pool
    pool.disconnect(inuse_connections=False)
    if isinstance(pool, SentinelConnectionPool):
        pool.sentinel_manager.ask_another()


def _options(*, over_tcp: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": CALL_TIMEOUT,
        "socket_connect_timeout": CALL_TIMEOUT,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
        "protocol": _PROTOCOL,
    }
    return options | {"socket_keepalive": True} if over_tcp else options


def _sentinel_pool(parts: re.Match[str]) -> SentinelConnectionPool:
    # redis-py has no URL for Sentinel. It reads the same URL without the Sentinels and the service.
    account = f"{parts['account']}@" if parts["account"] else ""
    given = parse_url(f"{parts['scheme']}://{account}{parts['rest'] or '/'}")  # type: ignore[no-untyped-call]
    with_tls = given.pop("connection_class", None) is not None
    own = {
        name.removeprefix(_SENTINEL_PREFIX): given.pop(name)
        for name in list(given)
        if name.startswith(_SENTINEL_PREFIX)
    }
    tls = {name: value for name, value in given.items() if name.startswith("ssl_")}
    options = _options(over_tcp=True)
    sentinels = _Sentinels([])  # type: ignore[no-untyped-call]
    for server in parts["servers"].split(","):
        found = _SENTINEL_SERVER.fullmatch(server)
        if found is None:
            raise ValueError("the URL has a Sentinel without host")
        pool = ConnectionPool(
            connection_class=_Tls if with_tls else _Tcp, host=found["host"],
            port=int(found["port"] or _SENTINEL_PORT), **options, **tls, **own,
        )  # fmt: skip
        sentinels.sentinels.append(redis.Redis(connection_pool=pool))
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]
        parts["service"], sentinels, connection_class=_TlsMaster if with_tls else _Master, **options, **given
    )
