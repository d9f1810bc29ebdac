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

    expects_data: returns whether the client may still send a part of its request
    """

    def __init__(self, inner: asyncio.Transport, expects_data: Callable[[], bool]) -> None:
        super().__init__()
        self._inner = inner
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
        self._inner.close()

    def abort(self) -> None:
        self._inner.abort()

    def is_closing(self) -> bool:
        return self.lingering or self._inner.is_closing()

    def is_sent(self) -> bool:
        """Return whether everything that was written is sent."""
        return self._inner.get_write_buffer_size() == 0

    def is_stuck(self, now: float) -> bool:
        """Return whether the client does not read the answer. Call this regularly."""
        unsent = self._inner.get_write_buffer_size()
        if unsent == 0:
            self._unsent_since = _NEVER
            return False
        if self._unsent_since == _NEVER or unsent > self._unsent or unsent <= self._unsent - WRITE_BYTES:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since > WRITE_SECONDS

    def has_lingered(self, now: float) -> bool:
        """Return whether the client had enough time since everything was sent. Call this regularly."""
        if not self.is_sent():
            return False
        if self._lingers_until == _NEVER:
            self._lingers_until = now + LINGER_SECONDS
        return now > self._lingers_until

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)
