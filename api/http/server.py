"""The server: uvicorn on uvloop and httptools, started, announced and stopped in our own manner."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import orjson
import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.ids import new_id

_LONGEST_HEAD: Final = 64 * 1024
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

log = structlog.get_logger(__name__)


class Protocol(HttpToolsProtocol):
    """HTTP/1.1, with a bound on a request's head. What is no request is answered in the shape of every other error."""

    #: Bytes that have come of a head which is not complete; None when none is under way.
    _head: int | None = None

    def on_message_begin(self) -> None:
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None and not self.transport.is_closing():
            self._head += len(data)
            if self._head > _LONGEST_HEAD:
                self.send_400_response(f"the request's head is larger than {_LONGEST_HEAD:,} bytes")

    def send_400_response(self, msg: str) -> None:
        error = {"code": "VALIDATION_ERROR", "message": msg, "request_id": str(new_id())}
        content = orjson.dumps({"error": error})
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()


class Server(uvicorn.Server):
    """Serves an app until a signal or `stop`; then takes no more, ends long polls and finishes what is under way.

    grace: seconds that requests under way have left. on_listening: hears the URL once requests are taken.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str,
        port: int,
        grace: float = 30.0,
        on_listening: Callable[[str], None] = lambda _url: None,
    ) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop",
            http=Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=2048,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=max(1, round(grace)),
        )
        super().__init__(config)
        self._app = app
        self._on_listening = on_listening
        self.socket = _listen(host, port)

    @property
    def url(self) -> str:
        """Where it is reached; the real port, when any free one was asked for."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run_until_stopped(self) -> None:
        """Serve in this thread; in the main thread SIGTERM and SIGINT stop it."""
        try:
            with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
                runner.run(self.serve(sockets=[self.socket]))
        finally:
            self.socket.close()

    def stop(self) -> None:
        """Begin to stop; safe from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        url = self.url
        await super().startup(sockets)
        if self.started:
            log.info("api.listening", url=url)
            self._on_listening(url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("api.stopping")
        self._app.state.door.polls.release()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised again: the process ends well."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address; raises Unavailable."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror or error} (set CALLBOARD_HOST and CALLBOARD_PORT)"
        ) from error
