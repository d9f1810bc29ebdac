"""The client for asyncio: the methods of `Client` as coroutines.

Enqueues of single jobs await the Batcher, and waits share one reader and one subscription. Everything else
runs the method of `Client` in one of a few threads; see ADR 25.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from threading import Lock
from types import TracebackType
from typing import Any, Concatenate, Final, Literal, ParamSpec, Self, TypeVar, Unpack
from uuid import UUID

from sqlalchemy.util import greenlet_spawn

from callboard.config.logging import defer_to_host
from callboard.config.settings import load_settings
from callboard.jobs.attempts.job_logs import GATHER_LIMIT
from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.call_threads import CallThreads
from callboard.jobs.client import Client, Wait, job_uuid, platform_at, wait_span
from callboard.jobs.definitions.own_code import name_of_job
from callboard.jobs.enqueue.lent_batches import write_lent
from callboard.jobs.errors import WaitTimeout
from callboard.jobs.lent_enqueue import job_within
from callboard.jobs.loop_calls import ClientClosed, LoopCalls
from callboard.jobs.model.basics.durations import LONGEST
from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA
from callboard.jobs.model.basics.small_values import is_small
from callboard.jobs.model.current import current_source
from callboard.jobs.model.job import Job
from callboard.jobs.model.job_reference import NamedJob
from callboard.jobs.model.new_job import Batch
from callboard.jobs.model.queue_limits import Rate
from callboard.jobs.model.request import EnqueueOptions, job_request
from callboard.jobs.operate.async_waiting import AsyncWaiting
from callboard.jobs.operate.control import BULK_LIMIT, Bulk
from callboard.jobs.operate.why import Explanation
from callboard.jobs.postgres.callers.kinds import AsyncCallersConnection
from callboard.jobs.postgres.callers.lent import lent_async

P = ParamSpec("P")
R = TypeVar("R")

#: Threads for reads, and threads for writes, which may wait for other transactions.
_READERS: Final = 4
_WRITERS: Final = 4
#: A connection for each thread. Twice as many may be open, and the Batchers take up to three.
_POOL_SIZE: Final = _READERS + _WRITERS
#: How long `close` waits for calls before it refuses those that have no thread yet. Seconds.
_CLOSE_WITHIN: Final = 30.0


class AsyncClient:
    """A connection to the platform for one event loop. Close it, or use it with `async with`.

    Tasks may share it. A cancelled call disturbs no other. The job of a cancelled enqueue may be committed.
    Raises WrongEventLoop in another event loop, and ClientClosed after `close`.
    """

    def __init__(self, *, database_url: str, redis_url: str, schema: str = DEFAULT_SCHEMA) -> None:
        platform = platform_at(database_url, redis_url, schema, pool_size=_POOL_SIZE)
        self._start(lambda: Client.over(platform))

    @classmethod
    def from_env(cls) -> Self:
        """Connect with the settings in force; without URLs, to the embedded servers in the data folder.

        The first call connects, and starts the embedded servers.
        """
        settings = load_settings()
        client = cls.__new__(cls)
        client._start(lambda: Client.from_settings(settings, pool_size=_POOL_SIZE))  # noqa: SLF001 - its own class
        return client

    def _start(self, make: Callable[[], Client]) -> None:
        defer_to_host()
        self._make = make
        self._making = Lock()
        self._client: Client | None = None
        self._calls = LoopCalls()
        self._readers = CallThreads("callboard-async-read", _READERS)
        self._writers = CallThreads("callboard-async-write", _WRITERS)
        self._waits: AsyncWaiting | None = None
        self._closing: asyncio.Task[None] | None = None

    async def enqueue(
        self,
        job: str | NamedJob,
        kwargs: Mapping[str, Any] | None = None,
        *,
        connection: AsyncCallersConnection | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Job:
        """Enqueue one job and return it, as `Client.enqueue` does.

        connection: an async connection of psycopg or asyncpg, or a SQLAlchemy AsyncConnection or
                    AsyncSession. The job exists only if its transaction commits.
        """
        values = {**options, "name": name_of_job(job), "kwargs": {} if kwargs is None else kwargs}
        with self._calls:
            platform = (await self._connected()).platform
            batch = await self._checked(values)
            if connection is not None:
                statements = await lent_async(connection, platform.database.schema)
                return await greenlet_spawn(job_within, platform, statements, batch)
            size = sum(len(one.args) + len(one.kwargs) for one in batch.jobs)
            written = await platform.enqueue.accept_async(batch, size=size)
            known = platform.jobs.as_written(batch, written)
            return known[0] if known else await self._readers.run(platform.jobs.enqueued, batch, written)

    async def enqueue_many(
        self,
        job: str | NamedJob,
        kwargs: Iterable[Mapping[str, Any]],
        *,
        connection: AsyncCallersConnection | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> list[UUID]:
        """Enqueue one job for each item of arguments, all or none; return the ids in the same order."""
        every = list(kwargs)
        if connection is None:
            return await self._write(Client.enqueue_many, job, every, **options)
        with self._calls:
            platform = (await self._connected()).platform
            batch = await self._read(Client.check_many, job, every, **options)
            if batch is None:
                return []
            statements = await lent_async(connection, platform.database.schema)
            written = await greenlet_spawn(write_lent, platform.enqueue, statements, batch)
            return written.ids

    async def get(self, job_id: UUID | str) -> Job:
        """Return the job; raises NotFound."""
        return await self._read(Client.get, job_id)

    async def wait(self, job_id: UUID | str, timeout: Wait = None) -> Job:  # noqa: ASYNC109 - as in Client
        """Return the job once it has ended; `timeout` in seconds or as "30s". Raises WaitTimeout."""
        wanted, span = job_uuid(job_id), wait_span(timeout)
        with self._calls:
            platform = (await self._connected()).platform
            if self._waits is None:
                self._waits = AsyncWaiting(platform.jobs, platform.waiting, self._readers.run)
            seconds = None if span is None else min(span, LONGEST).total_seconds()
            job = await self._waits.wait(wanted, seconds)
            if job is None and self._calls.closed:
                raise ClientClosed(f"the client was closed while it waited for job {wanted}; the job goes on")
            if job is None:
                # The job may have ended in this very moment.
                job = await self._readers.run(platform.jobs.get, wanted)
            if not job.finished:
                raise WaitTimeout(f"job {wanted} is still {job.state}")
            return job

    async def cancel(self, job_id: UUID | str, *, force: bool = False) -> Job:
        """Cancel a job that has not started; ask a running job to stop."""
        return await self._write(Client.cancel, job_id, force=force)

    async def retry(self, job_id: UUID | str) -> Job:
        """Queue a finished job again, with its full number of attempts."""
        return await self._write(Client.retry, job_id)

    async def delete(self, job_id: UUID | str) -> None:
        """Delete a finished job and its log."""
        await self._write(Client.delete, job_id)

    async def bulk(
        self,
        verb: Literal["cancel", "retry", "delete"],
        *,
        dry_run: bool = False,
        limit: int = BULK_LIMIT,
        **which: Any,
    ) -> Bulk:
        """Apply a verb to the oldest `limit` jobs that match, as `Client.bulk` does.

        After a cancelled call, the verb goes on to its end.
        """
        return await self._write(lambda client: client.bulk(verb, dry_run=dry_run, limit=limit, **which))

    async def logs(
        self, job_id: UUID | str, *, attempt: int | None = None, limit: int = GATHER_LIMIT
    ) -> list[JobLogLine]:
        """Return the newest `limit` log lines of a job, oldest first. Raises NotFound."""
        return await self._read(Client.logs, job_id, attempt=attempt, limit=limit)

    async def why(self, job_id: UUID | str) -> Explanation:
        """Explain why a job is not running. Raises NotFound."""
        return await self._read(Client.why, job_id)

    async def limit_queue(
        self,
        queue: str,
        *,
        concurrency: int | None = None,
        rate: str | Rate | None = None,
        key_concurrency: int | None = None,
        key_rate: str | Rate | None = None,
    ) -> None:
        """Replace all limits of a queue, as `Client.limit_queue` does."""
        await self._write(
            Client.limit_queue, queue, concurrency=concurrency, rate=rate,
            key_concurrency=key_concurrency, key_rate=key_rate,
        )  # fmt: skip

    async def close(self) -> None:
        """Answer the calls that have begun, and close the connections.

        A call of `wait` raises ClientClosed at once. All others end as usual, for up to 30 seconds.
        """
        self._calls.check_loop()
        if self._closing is None:
            # It goes on when this call is cancelled, and must not belong to a job that runs here.
            self._closing = asyncio.get_running_loop().create_task(self._close(), context=Context())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        with self._calls:
            await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _read(
        self, method: Callable[Concatenate[Client, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await self._in_thread(self._readers, method, *args, **kwargs)

    async def _write(
        self, method: Callable[Concatenate[Client, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await self._in_thread(self._writers, method, *args, **kwargs)

    async def _in_thread(
        self,
        threads: CallThreads,
        method: Callable[Concatenate[Client, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        with self._calls:
            client = await self._connected()
            return await threads.run(method, client, *args, **kwargs)

    async def _connected(self) -> Client:
        if self._client is None:
            return await self._writers.run(self._connect)
        return self._client

    def _connect(self) -> Client:
        with self._making:
            if self._client is None:
                self._client = self._make()
            return self._client

    async def _checked(self, values: Mapping[str, Any]) -> Batch:
        """Check a request: on the loop if that is quick, and else in a thread."""
        platform, source = (await self._connected()).platform, current_source()
        enqueue, catalogue = platform.enqueue, platform.catalogue
        # The full name of an application's job may need a query.
        if is_small(values) and catalogue.app is None:
            batch = enqueue.check_cached(job_request(values), source)
            if batch is not None:
                return batch
        return await self._readers.run(lambda: enqueue.check(catalogue.in_app(job_request(values)), source))

    async def _close(self) -> None:
        self._calls.closed = True
        if self._waits is not None:
            self._waits.release()
        try:
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._calls.ended()
        except TimeoutError:
            self._readers.refuse()
            self._writers.refuse()
        # Not the threads of the loop: the program may use all of them.
        closer = ThreadPoolExecutor(1, thread_name_prefix="callboard-async-close")
        try:
            await asyncio.get_running_loop().run_in_executor(closer, self._close_all)
        finally:
            closer.shutdown(wait=False)

    def _close_all(self) -> None:
        self._readers.close()
        self._writers.close()
        if self._client is not None:
            self._client.close()
