"""Notices that the event loop of async jobs is dead: it waits for events that cannot reach it any more."""

import sys
from typing import Final

from callboard.workers.execute.async_runner import AsyncRunner

#: After so many looks in a row without an answer the loop is dead. The looks are 0.2 s apart.
_MOST_SILENT: Final = 50


class SilentLoop:
    """Looks whether the loop answers. A loop on which a job's code runs is held, not dead."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner
        self._asked_at: float | None = None
        self._silent = 0

    def is_dead(self) -> bool:
        """Return whether the loop has not answered for long, although no Python code runs on it.

        That happens when a job closes the loop's file descriptors. Looks are counted, because after a time in
        which the whole process stood still the loop needs a moment for its answer.
        """
        asked_at = self._runner.asked_at
        if asked_at is None or asked_at != self._asked_at or not self._waits():
            self._asked_at, self._silent = asked_at, 0
        else:
            self._silent += 1
        return self._silent > _MOST_SILENT

    def _waits(self) -> bool:
        frame = sys._current_frames().get(self._runner.ident or 0)  # noqa: SLF001 - documented
        return frame is not None and frame.f_code is AsyncRunner.work.__code__
