"""HTTP by raw sockets, for requests that no client library sends."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from callboard.api.http.server import Server

PATIENCE = 60.0


@dataclass(frozen=True)
class Answer:
    """A response: its status, its headers with lower-case names, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error of the one form, which the body must have."""
        assert self.headers["content-type"] == "application/json"
        document: dict[str, Any] = json.loads(self.body)
        assert set(document) == {"error"}
        error: dict[str, Any] = document["error"]
        assert {"code", "message", "request_id"} <= set(error)
        return error


class RawConnection:
    """A socket to the server, and a reader of its responses."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._received = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read one response. Raises ConnectionError when the server closes the connection before it.

        to_head: the request was HEAD, so no body follows
        """
        head = self._until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = 0 if to_head else int(headers.get("content-length", 0))
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        return Answer(int(lines[0].split(" ")[1]), headers, body)

    def closed(self) -> bool:
        """Wait until the server ends the connection; return whether nothing else came before."""
        try:
            while True:
                self._receive()
        except ConnectionError:
            return self._received == b""

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(end)
        return head

    def _receive(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._received += data


@contextmanager
def raw(server: Server) -> Iterator[RawConnection]:
    """Connect to a server."""
    with socket.create_connection(server.socket.getsockname()[:2], timeout=PATIENCE) as connection:
        yield RawConnection(connection)


def ask(server: Server, request: bytes) -> Answer:
    """Send a request on a connection of its own and return the response."""
    with raw(server) as connection:
        connection.send(request)
        return connection.answer(to_head=request.startswith(b"HEAD "))


def taken_in(connection: socket.socket, chunk: bytes) -> int:
    """Send an endless stream; return how many bytes the server takes before it ends the connection."""
    sent = 0
    try:
        while sent < 200_000_000:
            connection.sendall(chunk)
            sent += len(chunk)
    except OSError:
        pass
    return sent
