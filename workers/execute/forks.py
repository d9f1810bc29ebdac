"""Jobs that fork: the copy of the worker process runs the rest of the job's code, and nothing else.

A fork copies the memory but not the threads. Without this module, the copy would go on with the work queue
that it inherited, and remove jobs from the board that it shares with the supervisor.
"""

import os
import signal
from typing import Final


class ProcessRole:
    """Whether this process is the worker, or a copy of it that a job made by a fork."""

    is_copy = False


PROCESS: Final = ProcessRole()
#: What the timers and the CPU limit of a process send. Without a handler they end the process.
TIMERS: Final = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU)


def watch() -> None:
    """From now on, mark copies of this process."""

    def in_copy() -> None:
        PROCESS.is_copy = True
        # The threads that act on the worker's signals do not exist in the copy.
        for number in (signal.SIGTERM, signal.SIGINT, *TIMERS):
            signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(after_in_child=in_copy)


def exit_copy(error: BaseException | None = None) -> None:
    """End a copy: the job's code has ended in it. `error`: what the job raised there."""
    os._exit(_exit_code(error))


def _exit_code(error: BaseException | None) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return int(error is not None)
