"""The HTTP server: uvicorn on uvloop and llhttp, with our own connections, start and stop."""

import asyncio
import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from callboard.api.http.connection import Connection
from callboard.api.http.connections import Connections, allowed_connections
from callboard.api.http.tls import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM

#: The connections are checked once for this many ticks. A tick of uvicorn takes 0.1 seconds.
_SWEEP_TICKS: Final = 5
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """Serves an app until a signal or `stop`.

    Then it accepts no more connections, ends long polls at once and finishes the running requests.

    stop_delay:      how many seconds it still accepts connections after the signal, while /readyz says 503
    grace:           how many seconds the running requests may still take
    max_connections: how many connections may be open; fewer if the process may not open so many files
    tls:             if given, the server speaks HTTPS
    on_listening:    called with the URL when the server accepts requests
    on_stopping:     called after the signal
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str,
        port: int,
        stop_delay: float = 0.0,
        grace: float = 30.0,
        max_connections: int = 10_000,
        tls: ssl.SSLContext | None = None,
        on_listening: Callable[[str], None] = lambda _url: None,
        on_stopping: Callable[[], None] = lambda: None,
    ) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop",
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=2048,
            timeout_graceful_shutdown=max(1, round(grace)),
        )
        super().__init__(config)
        self.server_state: Connections = Connections(allowed_connections(max_connections))
        self._app = app
        self._tls = tls
        self._on_listening = on_listening
        self._on_stopping = on_stopping
        self._stop_delay = stop_delay
        #: When it stops to accept connections. Monotonic seconds.
        self._closes_at: float | None = None
        self.socket = _listen(host, port)

    @property
    def url(self) -> str:
        """Return the server's URL. Its port is the real one, also if the setting is 0."""
        host, port = self.socket.getsockname()[:2]
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

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
        """Start the app, then accept requests. uvicorn's own method has no limit on TLS handshakes."""
        url = self.url
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self.should_exit = True
            return
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                lambda: Connection(self.config, self.server_state, self.lifespan.state, loop),
                sock=listener,
                ssl=self._tls,
                backlog=self.config.backlog,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=None if self._tls is None else SHUTDOWN_SECONDS,
            )
            for listener in sockets or [self.socket]
        ]
        self.started = True
        log.info("api.listening", url=url)
        self._on_listening(url)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to shut down now. A stop waits for the stop delay; a second Ctrl-C ends the wait."""
        if counter % _SWEEP_TICKS == 0:
            self.server_state.sweep(asyncio.get_running_loop().time())
        if not await super().on_tick(counter):
            return False
        if self._closes_at is None:
            self._closes_at = SYSTEM.monotonic() + self._stop_delay
            self._app.state.services.readiness.stop()
            self._on_stopping()
            log.info("api.stopping", delay=self._stop_delay)
        return self.force_exit or SYSTEM.monotonic() >= self._closes_at

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.services.polls.release()
        sweeping = asyncio.create_task(self._sweep())
        try:
            await super().shutdown(sockets)
        finally:
            sweeping.cancel()

    async def _sweep(self) -> None:
        """Check the connections while the server stops: there are no ticks any more."""
        while True:
            self.server_state.sweep(asyncio.get_running_loop().time())
            await asyncio.sleep(_SWEEP_TICKS / 10)

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
