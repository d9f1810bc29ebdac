"""Connections to Redis: every call ends in time, and every failure is RedisUnavailable.

The timeout of a socket limits one read, not a whole call. A Redis that sends single bytes, or is slow at each
step of a handshake, could block a caller forever. Here the whole call has one deadline. After a failure,
calls fail at once for a while.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_SECONDS, RedisOperation
from callboard.jobs.model.basics.clock import SYSTEM, Clock

#: A call that takes longer has failed. Seconds.
CALL_TIMEOUT: Final = 0.4
#: After the n-th failure in a row, calls fail at once for 2 to the power of n times as long as the failed
#: call took.
_LONGEST_STREAK: Final = 6
#: After a failure that took less than this there is no pause. Seconds.
_CHEAP: Final = CALL_TIMEOUT / 4
#: The shortest timeout of a socket. A timeout of 0 would make it non-blocking. Seconds.
_LEAST: Final = 0.001


class RedisUnavailable(Unavailable):
    """Redis refused a call or did not answer in time. The platform works without Redis."""

    stored_as = "RedisUnavailable"


@contextmanager
def unavailable() -> Iterator[None]:
    """Raise RedisUnavailable for every error of Redis in the block."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        # OOM, READONLY and LOADING are ResponseErrors; TimeoutError is no ConnectionError; an answer that is
        # not in Redis's protocol causes ValueError, TypeError, AttributeError and others. All mean that Redis
        # cannot be used now.
        raise RedisUnavailable(
            f"Redis does not answer: {str(error)[:200] or type(error).__name__}"
        ) from error


class Link:
    """A client for calls of one kind, each with its deadline.

    After a failed call there is a pause, in which all calls fail at once. It lasts a multiple of the time
    that the failed call took, at most `longest_pause` seconds. After the pause, one call tries again. There
    is no pause after a quick failure (connection refused, out of memory).
    """

    def __init__(self, url: str, *, longest_pause: float, clock: Clock = SYSTEM) -> None:
        self.client = _client(url)
        self._clock = clock
        self._longest_pause = longest_pause
        # Read and written without a lock: at worst two calls try at the same time.
        self._streak = 0
        self._refused_until = 0.0
        self._reason = ""

    @property
    def ailing(self) -> bool:
        """Whether the last call failed."""
        return self._streak > 0

    @contextmanager
    def call(self, operation: RedisOperation, timeout: float = CALL_TIMEOUT) -> Iterator[redis.Redis]:
        """Yield the client for one call. Raises RedisUnavailable when Redis fails, and during a pause.

        operation: the label of the metric that measures the call.
        """
        began = self._clock.monotonic()
        if began < self._refused_until:
            raise RedisUnavailable(self._reason)
        if self._streak:
            # This call tries Redis again. Meanwhile other calls fail at once.
            self._refused_until = began + min(timeout, self._longest_pause)
        try:
            with unavailable(), _within(timeout):
                yield self.client
        except Unavailable as error:
            self._reason = error.message
            self._pause(self._clock.monotonic(), began)
            raise
        finally:
            STORE_SECONDS.labels("redis", operation).observe(self._clock.monotonic() - began)
        if self._streak:
            self._streak, self._refused_until = 0, 0.0

    def close(self) -> None:
        self.client.close()

    def _pause(self, now: float, began: float) -> None:
        self._streak = min(self._streak + 1, _LONGEST_STREAK)
        cost = now - began if now - began > _CHEAP else 0.0
        self._refused_until = now + min(cost * 2**self._streak, self._longest_pause)


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
def _within(seconds: float) -> Iterator[None]:
    _deadline.timeout, _deadline.at = seconds, None
    try:
        yield
    finally:
        _deadline.timeout = None


class _TimedSocket:
    """A socket whose reads and writes keep the deadline of their call."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout: float | None = CALL_TIMEOUT

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def recv(self, *arguments: Any) -> bytes:
        return self._ready().recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        return self._ready().recv_into(*arguments)

    def sendall(self, data: bytes) -> None:
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

    def _connect(self) -> Any:
        left = _deadline.left()
        if left is not None:
            # Both timeouts are set: a TLS handshake uses the second one.
            self.socket_connect_timeout = self.socket_timeout = left
        try:
            return _TimedSocket(super()._connect())  # type: ignore[no-untyped-call]
        finally:
            self.socket_connect_timeout = self.socket_timeout = CALL_TIMEOUT


class _Tcp(_Timed, Connection): ...


class _Tls(_Timed, SSLConnection): ...


class _Unix(_Timed, UnixDomainSocketConnection): ...


def _client(url: str) -> redis.Redis:
    scheme = url.partition(":")[0]
    over_tcp: dict[str, Any] = {} if scheme == "unix" else {"socket_keepalive": True}
    return redis.Redis.from_url(
        url,
        connection_class={"unix": _Unix, "rediss": _Tls}.get(scheme, _Tcp),
        socket_timeout=CALL_TIMEOUT,
        socket_connect_timeout=CALL_TIMEOUT,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        # The handshake of RESP 2 is shorter: it has no HELLO. Nothing here needs RESP 3.
        protocol=2,
        **over_tcp,
    )
