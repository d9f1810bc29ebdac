"""The fork server of a worker: a process without threads that loads what worker children run, and forks them.

It never loads the modules of users. A child becomes a child of the supervisor, not of this process: so the
supervisor gets its exit code, and it works on when this process dies.
"""

import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from multiprocessing import spawn
from pathlib import Path
from typing import Final

from callboard.config import garbage

#: What the server sends when it can fork.
READY: Final = b"R"
#: A request to fork. The descriptors of the new child come with it.
FORK: Final = b"F"
#: A child gets at most this many descriptors.
MOST_FDS: Final = 64
#: A pid as text has at most this many bytes.
LONGEST_PID: Final = 20
#: The server's exit code when a thread runs in it. A fork would copy the locks that the thread holds.
EXIT_THREADS: Final = 3
#: A signal to the whole process group is for the supervisor and the children. The server ignores these, and
#: ends with the supervisor. They come blocked.
IGNORED: Final = (signal.SIGTERM, signal.SIGINT)

#: What a child loads when it starts: its own code, and what that imports when it is first used.
_PRELOADED: Final = ("callboard.workers.child", "callboard.workers.supervise.child_process")

#: In a child: the descriptors that it got.
_received: list[int] = []


class ReceivedFd:
    """A descriptor in a message to a new child. number: its place in the request to fork."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        """In the child: return the descriptor."""
        return _received[self._number]


def main(channel_fd: int) -> None:
    """Fork children for the supervisor at the other end of this socket, until it closes its end.

    In each child, run the process that the supervisor has sent, and end with its exit code.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    garbage.collect_rarely()
    for module in _PRELOADED:
        import_module(module)
    # Collections in the children do not write to what they share with this process.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=channel_fd) as channel:
        data, _alive, *fds = _next_child(channel)
    for number, handler in before.items():
        signal.signal(number, handler)
    _received[:] = fds
    # As in a process that multiprocessing has spawned: the interpreter ends in the usual way.
    sys.exit(spawn._main(data, os.dup(data)))  # noqa: SLF001 - as its own fork server does


def _next_child(channel: socket.socket) -> Sequence[int]:
    """Serve requests. Return in each child, with its descriptors; exit when the supervisor has ended."""
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise SystemExit(EXIT_THREADS)
    _send(channel, READY)
    while True:
        request, fds, _, _ = socket.recv_fds(channel, len(FORK), MOST_FDS)
        if not request:
            raise SystemExit
        for fd in fds:
            os.set_inheritable(fd, False)
        pid = _fork()
        if not pid:
            return fds
        for fd in fds:
            os.close(fd)
        _send(channel, str(pid).encode())


def _send(channel: socket.socket, message: bytes) -> None:
    try:
        channel.sendall(message)
    except BrokenPipeError:
        # The supervisor has ended.
        raise SystemExit from None


def _fork() -> int:
    """Fork twice; return 0 in the grandchild, and its pid here, where the child in between has ended.

    So the grandchild has lost its parent, and the kernel gives it to the supervisor. When the system gives no
    process, return the negative number of its error.
    """
    reader, writer = os.pipe()
    between = _fork_once()
    if not between:
        pid = _fork_once()
        if pid:
            os.write(writer, str(pid).encode())
            os._exit(0)
    os.close(writer)
    if between <= 0:
        os.close(reader)
        return between
    os.waitpid(between, 0)
    answer = os.read(reader, LONGEST_PID)
    os.close(reader)
    # If the process in between was killed, nothing is read. The supervisor notices the end of this one.
    return int(answer or sys.exit(1))


def _fork_once() -> int:
    """Return the pid of a child, 0 in the child, or the negative number of an error."""
    try:
        return os.fork()
    except OSError as error:
        return -(error.errno or errno.EAGAIN)
