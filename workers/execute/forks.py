"""Jobs that fork: the copy of the worker process runs the rest of the job's code, and nothing else.

A fork copies the memory but not the threads. Without this module, the copy would go on with the work queue
that it inherited, and remove jobs from the board that it shares with the supervisor. In a copy,
`current_job()` and its uses raise NotInAJob. A `Client` and `.send()` open connections of their own there.
"""

import os
import signal
import sys
from types import CodeType, FrameType
from typing import Any, Final

from callboard.jobs.attempts.context import disown_jobs


class ProcessRole:
    """Whether this process is the worker, or a copy of it that a job made by a fork."""

    is_copy = False


PROCESS: Final = ProcessRole()
#: What the timers and the CPU limit of a process send. Without a handler they end the process.
TIMERS: Final = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU)


def watch(loop: CodeType) -> None:
    """From now on, mark copies of this process.

    loop: the code that runs the event loop of async jobs. A copy must not go back to it.
    """

    def in_copy() -> None:
        PROCESS.is_copy = True
        disown_jobs()
        # The threads that act on the worker's signals do not exist in the copy.
        for number in (signal.SIGTERM, signal.SIGINT, *TIMERS):
            signal.signal(number, signal.SIG_DFL)
        _keep_from(loop)

    os.register_at_fork(after_in_child=in_copy)


def _keep_from(loop: CodeType) -> None:
    """In a copy, end the process when the code that forked it returns to the event loop.

    The loop shares its sockets with the process that was copied, and would run other jobs here.
    """
    frame: FrameType = sys._getframe()  # noqa: SLF001 - documented, despite its name
    while frame.f_back is not None and frame.f_back.f_code is not loop:
        frame = frame.f_back
    if frame.f_back is None:
        return
    step = frame

    def end_at_return(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame is step:
            os.write(2, b"callboard: a copy that an async job forked ends, because it cannot await\n")
            os._exit(1)

    # The end of a coroutine's step, such as an await that waits, is a return to the profiler.
    sys.setprofile(end_at_return)


def exit_copy(error: BaseException | None = None) -> None:
    """End a copy: the job's code has ended in it. `error`: what the job raised there."""
    os._exit(_exit_code(error))


def _exit_code(error: BaseException | None) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return int(error is not None)
