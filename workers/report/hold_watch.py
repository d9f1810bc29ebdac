"""Finds jobs that hold the event loop or the interpreter of their worker process, and names them."""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from callboard.jobs.attempts.reports import Reports
from callboard.jobs.attempts.worker import Hold, HoldKind
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import HELD_SECONDS, HOLDS, STORE_ERRORS
from callboard.workers.board import Board
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.attempt import Attempt, JobKind
from callboard.workers.execute.sync_runner import JobThread
from callboard.workers.fetch.slots import Slots

#: The event loop is held when it does not answer for this time. Seconds.
_LOOP_AFTER: Final = 1.0
#: The interpreter was held when no thread of ours ran for this time. Seconds.
_INTERPRETER_AFTER: Final = 2.0
#: A thread that used this part of the time held the interpreter.
_BUSY: Final = 0.7
_FRAMES: Final = 5
_MOST_NAMED: Final = 5

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _LoopHold:
    """The event loop is held. `holder`: the job that does it; None when it is not known."""

    holder: Attempt | None
    since: float
    #: Up to when the deadlines of the other jobs were moved.
    moved_to: float
    stored: bool = False


class HoldWatch:
    """Called by the monitor with each beat.

    The time in which another job holds the event loop does not count against the timeouts of async jobs. It
    counts for the job that holds it.

    threads: returns the threads that run sync jobs.
    """

    def __init__(
        self,
        loop: AsyncRunner,
        threads: Callable[[], Sequence[JobThread]],
        slots: Slots,
        board: Board,
        reports: Reports,
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._slots = slots
        self._board = board
        self._reports = reports
        self._hold: _LoopHold | None = None
        self._looked_at: float | None = None
        #: The processor time of each thread at the last beat. Seconds.
        self._used: dict[int, float] = {}
        #: The row of the worker may name a hold that is over.
        self._stale = False

    def look(self, now: float) -> None:
        """Notice what has begun or ended to hold up other jobs."""
        looked_at, self._looked_at = self._looked_at, now
        if looked_at is not None and now - looked_at > _INTERPRETER_AFTER:
            self._interpreter_was_held(looked_at, now)
        self._used = {ident: _used(ident) for ident in self._idents()}
        held = self._loop.unanswered(now)
        if held < _LOOP_AFTER:
            if self._hold is not None:
                self._loop_is_free(self._hold, now)
        elif self._hold is None:
            self._hold = self._loop_is_held(held, now)
        if self._hold is not None:
            self._move_deadlines(self._hold, now)

    def store(self, now: float) -> None:
        """Write a new hold, or that it is over, to the worker's row."""
        hold = self._hold
        try:
            if hold is not None and not hold.stored:
                job_id = None if hold.holder is None else hold.holder.job.id
                self._reports.hold(Hold(HoldKind.LOOP, job_id, now - hold.since))
                hold.stored = self._stale = True
            elif hold is None and self._stale:
                self._reports.hold(None)
                self._stale = False
        except Unavailable as error:
            STORE_ERRORS.labels("postgres", "hold").inc()
            log.debug("monitor.waiting", reason=error.message)

    def _loop_is_held(self, held: float, now: float) -> _LoopHold:
        holder = self._loop.current()
        HOLDS.labels(HoldKind.LOOP).inc()
        log.warning(
            "worker.loop_held", **_named(holder, self._begun(JobKind.ASYNC)), seconds=round(held, 1),
            where=_stack(self._loop.ident), hint="move the blocking call to asyncio.to_thread or a sync job",
        )  # fmt: skip
        return _LoopHold(holder, now - held, now - held)

    def _loop_is_free(self, hold: _LoopHold, now: float) -> None:
        self._move_deadlines(hold, now)
        self._hold = None
        HELD_SECONDS.labels(HoldKind.LOOP).inc(now - hold.since)
        job_id = None if hold.holder is None else str(hold.holder.job.id)
        log.info("worker.loop_free", job_id=job_id, seconds=round(now - hold.since, 1))

    def _move_deadlines(self, hold: _LoopHold, now: float) -> None:
        """Move the deadlines of the async jobs that wait. Without a known holder all deadlines stay."""
        passed, hold.moved_to = now - hold.moved_to, now
        if hold.holder is None:
            return
        waiting = [one for one in self._begun(JobKind.ASYNC) if one is not hold.holder]
        for attempt in waiting:
            if attempt.deadline is not None:
                attempt.deadline += passed
        self._board.postpone({attempt.job.id for attempt in waiting}, passed)

    def _interpreter_was_held(self, before: float, now: float) -> None:
        """Name the job that held the interpreter since the last beat, or those that may have.

        The jobs of this process did not run meanwhile, so only this thread's next beat notices.
        """
        gap = now - before
        # The supervisor may have stored it meanwhile.
        self._stale = True
        ran = [one for one in self._slots.held() if _seconds_of(one, before, now) > gap * _BUSY]
        threads = self._idents()
        busy = {one.job_id for ident, one in threads.items() if self._newly_used(ident) > gap * _BUSY}
        held_by = [one for one in ran if one.job.id in busy] if len(busy) == 1 else ran
        holder = held_by[0] if len(held_by) == 1 else None
        HOLDS.labels(HoldKind.INTERPRETER).inc()
        HELD_SECONDS.labels(HoldKind.INTERPRETER).inc(gap)
        running = None if holder is None or holder.finish is not None else holder.job.id
        ident = next((ident for ident, one in threads.items() if one.job_id == running), None)
        log.warning(
            "worker.interpreter_held", **_named(holder, ran), seconds=round(gap, 1),
            where=_stack(ident if running is not None else None),
            hint="no other thread ran: a C call kept the interpreter lock, or the process was stopped",
        )  # fmt: skip
        for attempt in ran:
            if attempt is not holder and attempt.deadline is not None:
                attempt.deadline += gap

    def _newly_used(self, ident: int) -> float:
        """Return the processor time that a thread has used since the last beat."""
        return _used(ident) - self._used.get(ident, 0.0)

    def _begun(self, kind: JobKind | None = None) -> list[Attempt]:
        return [
            one
            for one in self._slots.held()
            if one.began_at is not None and one.finish is None and kind in {None, one.kind}
        ]

    def _idents(self) -> dict[int, JobThread]:
        return {
            thread.ident: thread
            for thread in self._threads()
            if thread.ident is not None and thread.is_alive()
        }


def _seconds_of(attempt: Attempt, start: float, end: float) -> float:
    """Return for how many of these seconds an attempt ran."""
    if attempt.began_at is None:
        return 0.0
    ended_at = end if attempt.finish is None else attempt.ended_at
    return min(ended_at, end) - max(attempt.began_at, start)


def _named(holder: Attempt | None, begun: Sequence[Attempt]) -> dict[str, object]:
    """Return the fields of a log event that name the holder, or the jobs of which one is the holder."""
    if holder is not None:
        return {"job_id": str(holder.job.id), "job": holder.job.name}
    return {"one_of": [f"{one.job.name} {one.job.id}" for one in begun[:_MOST_NAMED]], "jobs": len(begun)}


def _stack(ident: int | None) -> list[str]:
    """Return the innermost frames of a thread, the innermost last."""
    frame = None if ident is None else sys._current_frames().get(ident)  # noqa: SLF001 - documented
    if frame is None:
        return []
    summary = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=_FRAMES, lookup_lines=False)
    return [f"{one.filename}:{one.lineno} {one.name}" for one in reversed(summary)]


def _used(ident: int) -> float:
    """Return the processor time of a thread; 0 when it has ended."""
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(ident))
    except OSError:
        return 0.0
