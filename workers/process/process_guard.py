"""Keeps a worker process fit for work, whatever its jobs do to it; ends it when that is not possible."""

import datetime as dt
import errno
import os
import resource
import time
from datetime import datetime
from threading import Event, Lock
from typing import Final

import structlog

from callboard.jobs.metrics import STATE_CHANGES
from callboard.workers.fetch.slots import Slots
from callboard.workers.process import green_threads
from callboard.workers.process.shared_state import CannotRestore, SharedState
from callboard.workers.process.standard_streams import StandardStreams, identity

#: What changes seldom, or costs a system call, is checked with every 10th beat.
_CHECK_EVERY: Final = 10
#: The process is replaced when its next file descriptor has a number above this share of the limit.
_FULL: Final = 0.9
_MOST_NAMES: Final = 10

log = structlog.get_logger(__name__)


class ProcessGuard:
    """Puts back what jobs have changed for the whole process. Make it when the jobs are imported.

    draining: is set when this process must be replaced. A job that is claimed after that may crash it.
    """

    def __init__(self, slots: Slots, draining: Event) -> None:
        self._slots = slots
        self._draining = draining
        self._state = SharedState()
        self._streams = StandardStreams()
        self._lock = Lock()
        self._beats = 0
        self._clock = _clock_functions()
        #: Nothing but a job that closes foreign descriptors closes it.
        self._own = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._own_identity = identity(self._own)
        #: Why this process must be replaced; None while it is fit.
        self.replacement: str | None = None

    def prepare(self) -> None:
        """Put back what can stop the worker's own threads. Call it before they write outcomes."""
        with self._lock:
            try:
                self._report(self._state.put_back_urgent(idle=False))
            except CannotRestore as problem:
                self._replace(str(problem))
            except Exception as error:  # noqa: BLE001 - outcomes are written in any case
                self._replace_unreadable(error)

    def check(self) -> None:
        """Put back what has changed. Call it ten times a second."""
        with self._lock:
            idle = not self._slots.count()
            self._beats += 1
            changed: list[str] = []
            try:
                # This one comes first: without it, the rest may fail.
                changed += self._state.put_back_urgent(idle=idle)
                changed += self._streams.put_back(idle=idle)
                if self._beats % _CHECK_EVERY == 0:
                    # What is put back may need a file descriptor.
                    self._look_for_damage(idle=idle)
                    changed += self._state.put_back(idle=idle)
            except CannotRestore as problem:
                self._replace(str(problem))
            except Exception as error:  # noqa: BLE001 - a job replaced something that the look needs
                self._replace_unreadable(error)
            self._report(changed)

    def _look_for_damage(self, *, idle: bool) -> None:
        """Raise CannotRestore when something is wrong that only a new process mends."""
        if identity(self._own) != self._own_identity:
            raise CannotRestore("a job closed file descriptors that are not its own")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        try:
            # The lowest number that is free.
            number = os.dup(self._own)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise CannotRestore(f"no file can be opened: {error.strerror}") from error
            raise CannotRestore(f"jobs have left {limit:,} files open, which is the limit") from error
        os.close(number)
        if number > _FULL * limit >= 0:
            raise CannotRestore(f"jobs have left about {number:,} files open; the limit is {limit:,}")
        library = green_threads.patched_by()
        if library is not None:
            raise CannotRestore(f"a job replaced threads and sockets with {library} (monkey patching)")
        if idle and _clock_functions() != self._clock:
            raise CannotRestore("a job replaced functions of `time` or `datetime`, and did not put them back")

    def _replace_unreadable(self, error: Exception) -> None:
        self._replace(f"its state cannot be checked: {type(error).__name__}: {error!s:.200}")

    def _replace(self, reason: str) -> None:
        if self.replacement is None:
            self.replacement = reason
            self._draining.set()
            STATE_CHANGES.labels("replaced").inc()
            log.error("worker.replacing", reason=reason, jobs=self._suspects())

    def _report(self, changed: list[str]) -> None:
        if changed:
            for state in changed:
                STATE_CHANGES.labels(state).inc()
            log.warning("worker.state_put_back", changed=changed, jobs=self._suspects())

    def _suspects(self) -> list[str]:
        """Return the names of jobs that run, or ended lately."""
        names = [*(attempt.job.name for attempt in self._slots.held()), *reversed(self._slots.ended)]
        return list(dict.fromkeys(names))[:_MOST_NAMES]


def _clock_functions() -> list[object]:
    own = [time.time, time.time_ns, time.monotonic, time.perf_counter, time.sleep, datetime]
    return [*own, dt.datetime, dt.date]
