"""The service that waits for jobs to end: one subscription for all waiters of this process.

An announcement says only that a job has ended; the job is always read from Postgres. While Redis is away,
each waiter reads its job once a second.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import timedelta
from threading import Event, Lock
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.errors import Unavailable, WaitTimeout
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.job import Job
from callboard.jobs.operate.listing import Jobs
from callboard.jobs.redis.transport import Transport
from callboard.jobs.watched_thread import WatchedThread

#: A waiter reads its job at least this often. Seconds.
LOOK_EVERY: Final = 1.0
_RETRY_AFTER: Final = 1.0

log = structlog.get_logger(__name__)


class Waiting:
    """Waits for jobs."""

    def __init__(self, jobs: Jobs, transport: Transport, *, clock: Clock = SYSTEM) -> None:
        self._jobs = jobs
        self._transport = transport
        self._clock = clock
        self._lock = Lock()
        self._waiters: dict[UUID, list[Callable[[], None]]] = defaultdict(list)
        self._stopping = Event()
        self._thread: WatchedThread | None = None

    def wait(self, job_id: UUID, timeout: timedelta | None) -> Job:
        """Return the job when it has ended. Raises WaitTimeout after `timeout`, and NotFound."""
        deadline = None if timeout is None else self._clock.monotonic() + timeout.total_seconds()
        woken = Event()
        with self.listen(job_id, woken.set):
            while not (job := self._jobs.get(job_id)).finished:
                left = LOOK_EVERY if deadline is None else min(LOOK_EVERY, deadline - self._clock.monotonic())
                if left <= 0:
                    raise WaitTimeout(f"job {job_id} is still {job.state}")
                woken.wait(left)
                woken.clear()
        return job

    @contextmanager
    def listen(self, job_id: UUID, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake`, from another thread, whenever the job may have ended."""
        with self._lock:
            self._waiters[job_id].append(wake)
            if self._thread is None:
                self._thread = WatchedThread("callboard-waiting", self._run)
                # The thread serves all callers, so it must not belong to the job that the first one runs.
                Context().run(self._thread.start)
        try:
            yield
        finally:
            with self._lock:
                self._waiters[job_id].remove(wake)
                if not self._waiters[job_id]:
                    del self._waiters[job_id]

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                announcements = self._transport.announcements()
                # Jobs may have ended before the subscription: let every waiter read its job once.
                self._wake(None)
                try:
                    while not self._stopping.is_set():
                        self._wake(announcements.next(timeout=0.5))
                finally:
                    announcements.close()
            except Unavailable:
                self._stopping.wait(_RETRY_AFTER)

    def _wake(self, finished: set[UUID] | None) -> None:
        with self._lock:
            ids = (
                list(self._waiters) if finished is None else [job for job in finished if job in self._waiters]
            )
            wakes = [wake for job in ids for wake in self._waiters[job]]
        for wake in wakes:
            try:
                wake()
            except Exception:  # an error of one waiter must not stop the others
                log.exception("waiting.wake_failed")
