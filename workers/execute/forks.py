"""A job that forks: the copy of the worker that comes to be runs nothing but the job's own code.

Threads do not survive a fork, memory does: the copy would go on with the work queue that it inherited, and wipe jobs off
the board that it shares with the supervisor.
"""

import os
import signal
from typing import Final


class _Here:
    """Whether this process is the worker itself or a copy that a job has made of it."""

    copied = False


_here: Final = _Here()


def watch() -> None:
    """From now on, know copies of this process."""

    def in_copy() -> None:
        _here.copied = True
        # Nobody is left who would act on the worker's own way to take a signal.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    os.register_at_fork(after_in_child=in_copy)


def leave_copy(error: BaseException | None = None) -> None:
    """In a copy, end the process: the job's code has come to its end there. In the worker, nothing."""
    if _here.copied:
        os._exit(_exit_code(error))


def _exit_code(error: BaseException | None) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return int(error is not None)
