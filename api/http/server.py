"""The HTTP server: uvicorn on uvloop and httptools, with our own start, stop and error form."""

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
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id

_MAX_HEAD: Final = 64 * 1024
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

log = structlog.get_logger(__name__)


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 with a limit on a request's head. A malformed request gets an error in our form."""

    #: Bytes received of an incomplete head; None when no head is being received.
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
            if self._head > _MAX_HEAD:
                self.send_400_response(f"the request's head is larger than {_MAX_HEAD:,} bytes")

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
    """Serves an app until a signal or `stop`.

    Then it accepts no more connections, ends long polls at once and finishes the running requests.

    stop_delay:   how many seconds it still accepts connections after the signal, while /readyz says 503
    grace:        how many seconds the running requests may still take
    on_listening: called with the URL when the server accepts requests
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str,
        port: int,
        stop_delay: float = 0.0,
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
        self._stop_delay = stop_delay
        #: When it stops to accept connections. Monotonic seconds.
        self._closes_at: float | None = None
        self.socket = _listen(host, port)

    @property
    def url(self) -> str:
        """Return the server's URL. Its port is the real one, also if the setting is 0."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run_until_stopped(self) -> None:
        """Serve in this thread until `stop`; in the main thread also until SIGTERM or SIGINT."""
        try:
            with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
                runner.run(self.serve(sockets=[self.socket]))
        finally:
            self.socket.close()

    def stop(self) -> None:
        """Start to stop the server. Any thread may call this."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        url = self.url
        await super().startup(sockets)
        if self.started:
            log.info("api.listening", url=url)
            self._on_listening(url)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to shut down now. A stop waits for the stop delay; a second Ctrl-C ends the wait."""
        if not await super().on_tick(counter):
            return False
        if self._closes_at is None:
            self._closes_at = SYSTEM.monotonic() + self._stop_delay
            self._app.state.services.readiness.stop()
            log.info("api.stopping", delay=self._stop_delay)
        return self.force_exit or SYSTEM.monotonic() >= self._closes_at

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.services.polls.release()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals as uvicorn does, but do not raise them again after the stop: the exit code is 0."""
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
    """Return a socket that listens on the address; raise Unavailable if that fails."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror or error}"
            " (CALLBOARD_HOST and CALLBOARD_PORT set another address)"
        ) from error
