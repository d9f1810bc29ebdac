"""A Redis that can fall ill: a proxy on the loopback before a real one, which it passes through, delays, cuts
or garbles.
"""

import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

#: Where a command begins in what a client sends.
_COMMAND = re.compile(rb"(?:^|\r\n)\*\d+\r\n\$")
_GARBAGE = random.Random(7).randbytes(64)

#: What is sent to the client in the place of an answer, and whether the connection stays.
Answer = Callable[[bytes], tuple[bytes, bool]]


def refusing(line: str) -> Answer:
    """Each command is answered with this error."""
    return lambda asked: (f"-{line}\r\n".encode() * len(_COMMAND.findall(asked)), True)


def garbling(_: bytes) -> tuple[bytes, bool]:
    return _GARBAGE, True


def of_another_kind(_: bytes) -> tuple[bytes, bool]:
    """Valid protocol, and no answer to what was asked."""
    return b"*2\r\n:7\r\n*1\r\n+x\r\n", True


def cutting(_: bytes) -> tuple[bytes, bool]:
    """The connection ends in the middle of the answer."""
    return b"*2\r\n$20\r\ncallboard:qu", False


@dataclass
class SickRedis:
    """Well until it is told otherwise; what it is told holds for connections that stand, too.

    answer: speaks in Redis's place. denied: commands with this in them are refused. hang: nothing comes back.
    delay: how long each answer takes, seconds.
    """

    upstream: str
    answer: Answer | None = None
    denied: bytes | None = None
    hang: bool = False
    delay: float = 0.0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def heal(self) -> None:
        self.answer, self.denied, self.hang, self.delay = None, None, False, 0.0

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self.upstream)
            back = threading.Thread(target=self._pass_back, args=(server, client), daemon=True)
            back.start()
            while asked := client.recv(65536):
                if self.hang:
                    continue
                if self.denied and self.denied in asked:
                    client.sendall(b"-NOPERM this user has no permissions to run this command\r\n")
                    continue
                if (answer := self.answer) is None:
                    server.sendall(asked)
                    continue
                told, stays = answer(asked)
                client.sendall(told)
                if not stays:
                    break
            for one in (client, server):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            back.join()

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while told := server.recv(65536):
                self._stopping.wait(self.delay)
                if not self.hang and self.answer is None:
                    client.sendall(told)
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def sick_redis(socket_path: str) -> Iterator[SickRedis]:
    """A proxy before the Redis that listens on this socket; well until it is told otherwise."""
    proxy = SickRedis(socket_path)
    server = threading.Thread(target=proxy.serve, daemon=True)
    server.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        server.join(5)
