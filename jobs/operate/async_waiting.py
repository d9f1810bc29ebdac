"""Coroutines wait for jobs to end: they use no thread each, and one query reads all their jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from contextvars import Context
from itertools import islice
from typing import Any, Final
from uuid import UUID

from callboard.jobs.errors import NotFound
from callboard.jobs.model.job import Job
from callboard.jobs.operate.listing import Jobs
from callboard.jobs.operate.waiting import LOOK_EVERY, Waiting

#: One query reads at most this many jobs.
_BATCH: Final = 200


class AsyncWaiting:
    """Waits for jobs on behalf of coroutines of one event loop.

    When Redis announces a job's end, the job is read within milliseconds. All waited-for jobs are also read
    once a second, because an announcement may be lost. A waiting coroutine costs only a future.

    run: calls a function with arguments in a thread.
    """

    def __init__(self, jobs: Jobs, waiting: Waiting, run: Callable[..., Awaitable[Any]]) -> None:
        self._run = run
        self._jobs = jobs
        self._waiting = waiting
        self._futures: dict[UUID, set[asyncio.Future[Job | None]]] = {}
        self._marked: set[UUID] = set()
        self._wake = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._released = False

    async def wait(self, job_id: UUID, seconds: float | None) -> Job | None:
        """Return the job when it has ended, or None after `seconds` or when `release` is called.

        Raise NotFound if there is no such job, and Unavailable if Postgres does not answer.
        """
        if self._released:
            return None
        future: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        with self._waiting.listen(job_id, self._marker(job_id)):
            self._futures.setdefault(job_id, set()).add(future)
            self._ensure_reader()
            # The job may have ended before this coroutine listened.
            self._mark(job_id)
            try:
                async with asyncio.timeout(seconds):
                    return await future
            except TimeoutError:
                return None
            finally:
                self._forget(job_id, future)

    def release(self) -> None:
        """End all waits with None, and all future waits too."""
        self._released = True
        self._wake.set()
        for future in [future for futures in self._futures.values() for future in futures]:
            if not future.done():
                future.set_result(None)

    def _marker(self, job_id: UUID) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def mark() -> None:
            # The listener's thread calls this, perhaps when the loop has just been closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._mark, job_id)

        return mark

    def _mark(self, job_id: UUID) -> None:
        self._marked.add(job_id)
        self._wake.set()

    def _ensure_reader(self) -> None:
        """Start the reader, if somebody waits and none runs."""
        if self._futures and (self._reader is None or self._reader.done()):
            # It serves all who wait, so it must not belong to the job that the first one runs.
            task = asyncio.get_running_loop().create_task(self._read_until_idle(), context=Context())
            # Somebody may cancel it, such as a program that cancels all tasks it knows.
            task.add_done_callback(lambda _: self._ensure_reader())
            self._reader = task

    def _forget(self, job_id: UUID, future: "asyncio.Future[Job | None]") -> None:
        futures = self._futures.get(job_id, set())
        futures.discard(future)
        if not futures:
            self._futures.pop(job_id, None)

    async def _read_until_idle(self) -> None:
        """Read announced jobs at once and all jobs every second, as long as any request waits."""
        loop = asyncio.get_running_loop()
        next_full_read = loop.time() + LOOK_EVERY
        while self._futures:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_full_read):
                    await self._wake.wait()
            self._wake.clear()
            ids, self._marked = self._marked & self._futures.keys(), set()
            if loop.time() >= next_full_read:
                ids = set(self._futures)
                next_full_read = loop.time() + LOOK_EVERY
            for batch in _batches(ids):
                await self._read(batch)

    async def _read(self, ids: list[UUID]) -> None:
        try:
            found = {job.id: job for job in await self._run(self._jobs.get_many, ids)}
        except Exception as error:  # noqa: BLE001 - every waiting coroutine gets it; the loop must go on
            for job_id in ids:
                self._resolve(job_id, error)
            return
        for job_id in ids:
            job = found.get(job_id)
            if job is None:
                self._resolve(job_id, NotFound(f"there is no job {job_id}"))
            elif job.finished:
                self._resolve(job_id, job)

    def _resolve(self, job_id: UUID, outcome: Job | Exception) -> None:
        for future in self._futures.get(job_id, set()):
            if future.done():
                continue
            if isinstance(outcome, Job):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)


def _batches(ids: Iterable[UUID]) -> Iterable[list[UUID]]:
    rest = iter(ids)
    while batch := list(islice(rest, _BATCH)):
        yield batch
