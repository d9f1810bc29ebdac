"""The process of a worker child: forked by the fork server, or spawned where that is not possible."""

import io
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import popen_fork, reduction, spawn, util
from multiprocessing.context import SpawnProcess, set_spawning_popen
from multiprocessing.process import BaseProcess
from typing import Any

from callboard.workers.fork_server import ReceivedFd
from callboard.workers.supervise.fork_client import ForkClient


class WorkerFork(SpawnProcess):
    """A process as multiprocessing spawns it, in a fork of the fork server."""

    def __init__(self, server: ForkClient, target: Callable[..., object], args: tuple[Any, ...]) -> None:
        super().__init__(target=target, args=args, name="callboard-worker")
        self._popen_fork = partial(_Forked, server)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_popen_fork"}

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        forked = process_obj._popen_fork(process_obj)  # noqa: SLF001 - its own
        return forked if forked.pid else SpawnProcess._Popen(process_obj)  # noqa: SLF001


class _Forked(popen_fork.Popen):
    """As multiprocessing's Popen for its own fork server, but the process is a child of this one.

    pid: 0 if the server could not fork.
    """

    DupFd = ReceivedFd

    def __init__(self, server: ForkClient, process_obj: BaseProcess) -> None:
        self._server = server
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Send this descriptor with the request; return its number there."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: BaseProcess) -> None:
        message = io.BytesIO()
        preparation = spawn.get_preparation_data(process_obj.name)
        set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            reduction.dump(preparation, message)
            reduction.dump(process_obj, message)
        finally:
            set_spawning_popen(None)
        # The child notices the end of this process at `data`, and this process the end of the child at
        # `sentinel`.
        ours: list[int] = []
        self.finalizer = util.Finalize(self, _close, (ours,))
        with ExitStack() as theirs:
            data_out, data = os.pipe()
            ours.append(data)
            theirs.callback(os.close, data_out)
            self.sentinel, alive = os.pipe()
            ours.append(self.sentinel)
            theirs.callback(os.close, alive)
            self.pid = self._server.fork([data_out, alive, *self._fds]) or 0
        # A child that has died already is noticed by its exit code.
        with suppress(BrokenPipeError), open(data, "wb", closefd=False) as file:
            file.write(message.getbuffer() if self.pid else b"")
        if not self.pid:
            self.close()


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
