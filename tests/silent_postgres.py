"""A Postgres that can fall silent: a proxy on the loopback whose connections stay open and pass nothing on."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit, urlunsplit

_READ = 65536
#: How often a pipe looks whether it has fallen silent. Seconds.
_LOOK_EVERY = 0.02
#: The end of a login: the server is ready for the first statement.
_READY = b"Z\x00\x00\x00\x05I"


@dataclass
class SilentPostgres:
    """Passes everything on until `hush`. A connection that fell silent stays so for ever."""

    upstream: str
    #: How many connections have been opened.
    opened: int = 0
    #: Whether new connections fall silent when their login is done.
    only_logins: bool = False
    _new_are_silent: bool = False
    _generation: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        parts = urlsplit(self.upstream)
        user = f"{parts.username or ''}:{parts.password}" if parts.password else parts.username or ""
        port = self._listener.getsockname()[1]
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}", query=""))

    def hush(self, *, new: bool) -> None:
        """Let all connections fall silent. new: those that are opened from now on, too."""
        self._new_are_silent = new
        self._generation += 1

    def speak(self) -> None:
        """Pass new connections on again."""
        self._new_are_silent = False

    def serve(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError):
                client, _ = self._listener.accept()
                self.opened += 1
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._listener.close()

    def _connect(self, client: socket.socket) -> None:
        generation = -1 if self._new_are_silent else self._generation
        try:
            server = self._open()
        except OSError:
            client.close()
            return
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=(source, target, generation), daemon=True).start()

    def _open(self) -> socket.socket:
        parts = urlsplit(self.upstream)
        given = parse_qs(parts.query)
        if "host" in given:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(f"{given['host'][0]}/.s.PGSQL.{given.get('port', ['5432'])[0]}")
            return connection
        return socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5432))

    def _pass_on(self, source: socket.socket, target: socket.socket, generation: int) -> None:
        source.settimeout(_LOOK_EVERY)
        while generation == self._generation and not self._stopping.is_set():
            try:
                data = source.recv(_READ)
                if generation == self._generation:
                    target.sendall(data)
                if self.only_logins and data.endswith(_READY):
                    break
            except TimeoutError:
                continue
            except OSError:
                data = b""
            if not data:
                source.close()
                target.close()
                return
        self._stopping.wait()
        source.close()


@contextmanager
def silent_postgres(upstream: str) -> Iterator[SilentPostgres]:
    proxy = SilentPostgres(upstream)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.stop()
