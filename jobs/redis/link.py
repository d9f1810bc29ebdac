"""The way to Redis: every call ends in time, and every failure is Unavailable.

A socket's timeout bounds one read, not a call: a Redis that sends a byte now and then, or is slow at each step of a
connection's handshake, could hold a caller for ever. Here the whole call has one deadline, and after a failure callers are
spared for a while.
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
from callboard.jobs.model.clock import SYSTEM, Clock

#: A call that takes longer has failed. Seconds.
PATIENCE: Final = 0.4
#: After the n-th failure in a row, the next call waits for 2 to the n times what the failure cost.
_LONGEST_STREAK: Final = 6
#: A failure that costs no more than this spares nobody. Seconds.
_CHEAP: Final = PATIENCE / 4
#: What a socket must be given, for 0 would mean 'at once or not at all'. Seconds.
_LEAST: Final = 0.001


class RedisUnavailable(Unavailable):
    """Redis does not do what it is asked, or not in good time; whatever it was, Postgres does without."""


@contextmanager
def unavailable() -> Iterator[None]:
    """Every way in which Redis can fail to do what it is asked, as RedisUnavailable."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        # OOM, READONLY and LOADING are ResponseErrors, TimeoutError is no ConnectionError, and over an answer that is not
        # Redis's protocol the client trips with ValueError, TypeError, AttributeError and others: all mean 'not now'.
        raise RedisUnavailable(
            f"Redis does not answer: {str(error)[:200] or type(error).__name__}"
        ) from error


class Link:
    """A client for calls of one kind, each within its time.

    After a failure calls are refused at once for a multiple of what it cost, at most `longest_pause` seconds; then one
    call tries. A failure that costs next to nothing (nobody listens, OOM) is followed by no pause.
    """

    def __init__(self, url: str, *, longest_pause: float, clock: Clock = SYSTEM) -> None:
        self.client = _client(url)
        self._clock = clock
        self._longest_pause = longest_pause
        # Read and written without a lock: at worst two try at once.
        self._streak = 0
        self._refused_until = 0.0
        self._reason = ""

    @property
    def ailing(self) -> bool:
        """Whether the last call failed."""
        return self._streak > 0

    @contextmanager
    def call(self, patience: float = PATIENCE) -> Iterator[redis.Redis]:
        """The client, for one call; raises Unavailable when Redis fails, or is left alone after a failure."""
        began = self._clock.monotonic()
        if began < self._refused_until:
            raise RedisUnavailable(self._reason)
        if self._streak:
            # One tries; the others are refused meanwhile.
            self._refused_until = began + min(patience, self._longest_pause)
        try:
            with unavailable(), _within(patience):
                yield self.client
        except Unavailable as error:
            self._reason = error.message
            self._pause(self._clock.monotonic(), began)
            raise
        if self._streak:
            self._streak, self._refused_until = 0, 0.0

    def close(self) -> None:
        self.client.close()

    def _pause(self, now: float, began: float) -> None:
        self._streak = min(self._streak + 1, _LONGEST_STREAK)
        cost = now - began if now - began > _CHEAP else 0.0
        self._refused_until = now + min(cost * 2**self._streak, self._longest_pause)


class _Deadline(local):
    """When the call of this thread must be over, by the process's own clock; counted from its first use of a socket."""

    patience: float | None = None
    at: float | None = None

    def left(self) -> float | None:
        """Seconds; None outside of calls."""
        if self.patience is None:
            return None
        now = SYSTEM.monotonic()
        if self.at is None:
            self.at = now + self.patience
        return max(self.at - now, _LEAST)


_deadline: Final = _Deadline()


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    _deadline.patience, _deadline.at = seconds, None
    try:
        yield
    finally:
        _deadline.patience = None


class _TimedSocket:
    """A socket whose reads and writes keep to the deadline of the call they belong to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout: float | None = PATIENCE

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
        # The call's time counts, not what the socket was given when it was made, in another call.
        self._sock.settimeout(self._timeout if left is None or self._timeout == 0 else left)
        return self._sock


if TYPE_CHECKING:
    _AnyConnection = Connection
else:
    _AnyConnection = object


class _Timed(_AnyConnection):
    """Makes connections whose sockets keep to the deadline, and connects within it."""

    def _connect(self) -> Any:
        left = _deadline.left()
        if left is not None:
            # Both: a TLS handshake reads under the second one.
            self.socket_connect_timeout = self.socket_timeout = left
        try:
            return _TimedSocket(super()._connect())  # type: ignore[no-untyped-call]
        finally:
            self.socket_connect_timeout = self.socket_timeout = PATIENCE


class _Tcp(_Timed, Connection): ...


class _Tls(_Timed, SSLConnection): ...


class _Unix(_Timed, UnixDomainSocketConnection): ...


def _client(url: str) -> redis.Redis:
    scheme = url.partition(":")[0]
    over_tcp: dict[str, Any] = {} if scheme == "unix" else {"socket_keepalive": True}
    return redis.Redis.from_url(
        url,
        connection_class={"unix": _Unix, "rediss": _Tls}.get(scheme, _Tcp),
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        # Without HELLO a handshake is shorter, and nothing of RESP 3 is used.
        protocol=2,
        **over_tcp,
    )
