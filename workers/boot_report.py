"""What a worker child does while it starts, in memory that survives the child.

A module that is imported may end the process at any line, or hang. The supervisor reads here how far the
child came, why it could not start, and where it was when it crashed or hung.
"""

import ctypes
import faulthandler
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.reduction import DupFd
from typing import Any, Final
from weakref import finalize

from callboard.jobs.dramatiq.import_faults import Place, located, most_relevant

#: A child must be ready within this time after its start. It imports the jobs meanwhile. Seconds.
LONGEST_BOOT: Final = 60.0
#: A child that is not ready after this time writes its stack. Its supervisor waits a little longer. Seconds.
STACK_AFTER: Final = LONGEST_BOOT - 5.0
#: The step of a child that runs users' modules.
IMPORTING: Final = "imported"
_MAX_STEP: Final = 512
_MAX_FAULT: Final = 4096
_MAX_STACK: Final = 64 * 1024
#: Of a stack that faulthandler writes: the end of its heading, and a call.
_NEXT_STACK: Final = "(most recent call first):"
_FRAME: Final = re.compile(r'  File "(.+)", line (\d+) in ')
#: Only the main thread has calls in these files, and while it imports, in those.
_SPAWN: Final = "multiprocessing/spawn.py"
_IMPORTLIB: Final = "importlib"


class BootReport:
    """The child writes it, the supervisor reads it."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._step: Any = context.RawArray(ctypes.c_char, _MAX_STEP)
        self._fault: Any = context.RawArray(ctypes.c_char, _MAX_FAULT)
        self._stack = _unnamed_file()
        finalize(self, os.close, self._stack)

    def __getstate__(self) -> dict[str, Any]:
        return {"step": self._step, "fault": self._fault, "stack": DupFd(self._stack)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._step, self._fault, self._stack = state["step"], state["fault"], state["stack"].detach()

    @property
    def step(self) -> str:
        """Return what the child does, as a verb in the past tense and its object."""
        return _read(self._step)

    @property
    def fault(self) -> str:
        """Return why the child cannot start, in one sentence; empty if it has not said so."""
        return _read(self._fault)

    @property
    def is_importing(self) -> bool:
        """Return whether the child runs users' modules."""
        return self.step.startswith(IMPORTING)

    def place(self) -> str:
        """Return the line of the user's code at which the child crashed or hung; empty if it is not known."""
        found = most_relevant(_main_stack(os.pread(self._stack, _MAX_STACK, 0).decode(errors="replace")))
        return located(found) if found else ""

    def begin(self, step: str) -> None:
        """In the child: set what it does now."""
        _write(self._step, step)

    def fail(self, reason: str) -> None:
        """In the child: set why it cannot start."""
        _write(self._fault, reason)

    @contextmanager
    def watching(self, stack_after: float = STACK_AFTER) -> Iterator[None]:
        """In the child: write the stack of a crash in this block, and of a block that takes too long.

        Exits by os._exit() in the block are recorded as its fault. Afterwards, stacks go to stderr.
        """
        faulthandler.enable(self._stack)
        faulthandler.dump_traceback_later(stack_after, file=self._stack)
        leave, pid = os._exit, os.getpid()

        def record(status: int) -> None:
            # A process that a module forks may use it too. Its end is not this one's.
            if os.getpid() == pid and self.is_importing:
                frame = sys._getframe(1)  # noqa: SLF001 - the only way to the caller
                where = located((frame.f_code.co_filename, frame.f_lineno))
                self.fail(f"the process called os._exit({status}) while it {self.step} ({where})")
            leave(status)

        os._exit = record  # type: ignore[assignment]
        try:
            yield
        finally:
            os._exit = leave
            faulthandler.cancel_dump_traceback_later()
            if sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)


def _main_stack(dump: str) -> list[Place]:
    """Return the stack of the main thread, which imports, the innermost call last."""
    stacks = [
        [(file, int(line)) for file, line in _FRAME.findall(thread)] for thread in dump.split(_NEXT_STACK)
    ]
    # The outermost calls of a deep stack are missing.
    for caller in (_SPAWN, _IMPORTLIB):
        for stack in stacks:
            if any(caller in file for file, _ in stack):
                return stack[::-1]
    return []


def _unnamed_file() -> int:
    """Return a descriptor of a file that has no name, in memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("callboard-boot")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _read(array: Any) -> str:
    return bytes(array.value).decode(errors="ignore")


def _write(array: Any, text: str) -> None:
    array.value = text.replace("\0", " ").encode(errors="replace")[: len(array) - 1]
