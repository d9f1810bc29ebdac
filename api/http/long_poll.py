"""Long polls: many wait for jobs to end, and hold no thread; one query looks for all of them at once."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Final
from uuid import UUID

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from callboard.jobs.errors import NotFound
from callboard.jobs.model.job import Job
from callboard.jobs.operate.listing import Jobs
from callboard.jobs.operate.waiting import LOOK_EVERY, Waiting

#: Jobs read by one query.
_AT_ONCE: Final = 200


class LongPolls:
    """Waits for jobs on behalf of requests, all on one event loop.

    An announcement (Redis) has a job looked at within milliseconds; announced or not, all are looked at once a
    second. A request costs a future while it waits, nothing else.
    """

    def __init__(self, jobs: Jobs, waiting: Waiting) -> None:
        self._jobs = jobs
        self._waiting = waiting
        self._futures: dict[UUID, set[asyncio.Future[Job | None]]] = {}
        self._marked: set[UUID] = set()
        self._wake = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._released = False

    async def wait(self, job_id: UUID, seconds: float) -> Job | None:
        """The job once it has ended; None when that takes longer, or the server ends. Raises NotFound, Unavailable."""
        if self._released:
            return None
        future: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        with self._waiting.listen(job_id, self._marker(job_id)):
            self._futures.setdefault(job_id, set()).add(future)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            # It may have ended before anybody listened.
            self._mark(job_id)
            try:
                async with asyncio.timeout(seconds):
                    return await future
            except TimeoutError:
                return None
            finally:
                self._forget(job_id, future)

    def release(self) -> None:
        """Let all who wait go, and nobody wait any more."""
        self._released = True
        self._wake.set()
        for future in [future for futures in self._futures.values() for future in futures]:
            if not future.done():
                future.set_result(None)

    def _marker(self, job_id: UUID) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def mark() -> None:
            # Called from the listener's thread, perhaps when the loop has just been closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._mark, job_id)

        return mark

    def _mark(self, job_id: UUID) -> None:
        self._marked.add(job_id)
        self._wake.set()

    def _forget(self, job_id: UUID, future: "asyncio.Future[Job | None]") -> None:
        futures = self._futures.get(job_id, set())
        futures.discard(future)
        if not futures:
            self._futures.pop(job_id, None)

    async def _look(self) -> None:
        """Runs as long as anybody waits."""
        loop = asyncio.get_running_loop()
        all_again_at = loop.time() + LOOK_EVERY
        while self._futures:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(all_again_at):
                    await self._wake.wait()
            self._wake.clear()
            ids, self._marked = self._marked & self._futures.keys(), set()
            if loop.time() >= all_again_at:
                ids = set(self._futures)
                all_again_at = loop.time() + LOOK_EVERY
            for some in _chunks(ids):
                await self._look_at(some)

    async def _look_at(self, ids: list[UUID]) -> None:
        try:
            found = {job.id: job for job in await run_in_threadpool(self._jobs.get_many, ids)}
        except Exception as error:  # noqa: BLE001 - each who waits hears it, and the looking goes on
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


async def gone(request: Request) -> None:
    """Return once the caller has hung up. The body must have been read, or be empty."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _chunks(ids: Iterable[UUID]) -> Iterable[list[UUID]]:
    left = iter(ids)
    while some := list(islice(left, _AT_ONCE)):
        yield some
