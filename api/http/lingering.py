"""Close a connection so that the client can read the answer before the connection is reset."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

#: How long the server reads and drops what a client still sends after the last answer. Seconds.
LINGER_SECONDS: Final = 5.0
#: It drops at most this many bytes.
MAX_LINGER: Final = 32 * 1024 * 1024
#: If less than WRITE_BYTES leave the write buffer in WRITE_SECONDS, the client does not read the answer.
WRITE_SECONDS: Final = 30.0
WRITE_BYTES: Final = 16 * 1024
_NEVER: Final = float("inf")


class LingeringTransport(asyncio.Transport):
    """A transport whose `close` waits until the client has read the answer.

    If a socket is closed while received data is unread, the kernel resets the connection, and the client may
    lose an answer that it has not read. So `close` ends only the sending side if the request is not read
    completely, and the rest is dropped. A write to a closed connection is dropped too.

    With TLS, `close` also waits until everything is sent: the inner transport would give up after some time.

    raw:          the transport below TLS; None without TLS
    expects_data: returns whether the client may still send a part of its request
    """

    def __init__(
        self, inner: asyncio.Transport, raw: asyncio.Transport | None, expects_data: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._inner = inner
        self._raw = raw
        self._closes_when_sent = False
        self._expects_data = expects_data
        self.lingering = False
        self._lingers_until = _NEVER
        self._unsent = 0
        self._unsent_since = _NEVER

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            self._inner.write(data)

    def close(self) -> None:
        if self.is_closing():
            return
        if not self._expects_data():
            self.close_now()
            return
        self.lingering = True
        if self._inner.can_write_eof():
            self._inner.write_eof()

    def close_now(self) -> None:
        """Close without waiting for the client, after what is written is sent."""
        if self._raw is None or self._unsent_bytes() == 0:
            self._inner.close()
        else:
            self._closes_when_sent = True

    def close_if_sent(self) -> None:
        """Close now if the connection was to close once everything is sent. Call this regularly."""
        if self._closes_when_sent and self._unsent_bytes() == 0:
            self._inner.close()

    def abort(self) -> None:
        (self._raw or self._inner).abort()

    def is_closing(self) -> bool:
        return self.lingering or self._closes_when_sent or self._inner.is_closing()

    def _unsent_bytes(self) -> int:
        size = self._inner.get_write_buffer_size()
        return size if self._raw is None else size + self._raw.get_write_buffer_size()

    def is_stuck(self, now: float) -> bool:
        """Return whether the client does not read the answer. Call this regularly."""
        unsent = self._unsent_bytes()
        if unsent == 0:
            self._unsent_since = _NEVER
            return False
        if self._unsent_since == _NEVER or unsent > self._unsent or unsent <= self._unsent - WRITE_BYTES:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since > WRITE_SECONDS

    def has_lingered(self, now: float) -> bool:
        """Return whether the client had enough time since everything was sent. Call this regularly."""
        if self._unsent_bytes():
            return False
        if self._lingers_until == _NEVER:
            self._lingers_until = now + LINGER_SECONDS
        return now > self._lingers_until

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)
