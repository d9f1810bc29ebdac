"""Read a request again that offers another protocol, such as HTTP/2 or WebSocket, without its offer."""

from collections.abc import Iterable
from typing import Final, Protocol

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})


def head_without_offer(version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a head whose body has the same length as that of a request with these headers."""
    kept = [name + b": " + value for name, value in headers if name in _FRAMING]
    return b"\r\n".join([f"POST / HTTP/{version}".encode(), *kept, b"\r\n"])


class ParserCallbacks(Protocol):
    """What llhttp calls while it reads a request."""

    def on_message_begin(self) -> None: ...

    def on_url(self, url: bytes) -> None: ...

    def on_header(self, name: bytes, value: bytes) -> None: ...

    def on_headers_complete(self) -> None: ...

    def on_body(self, body: bytes) -> None: ...

    def on_message_complete(self) -> None: ...


class SecondReading:
    """The callbacks of a parser that reads a head which the connection knows already."""

    def __init__(self, connection: ParserCallbacks) -> None:
        self._connection = connection
        self._known = True
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if not self._known:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._known:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._known:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._known:
            self._known = False
        else:
            self._connection.on_headers_complete()
