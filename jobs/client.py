"""Callboard from other Python programs: enqueue, look, wait."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, cast
from uuid import UUID

import psycopg
from sqlalchemy import Connection

from config.embedded import servers
from config.logging import defer_to_host
from config.settings import load_settings, sqlalchemy_url
from jobs.context import current_source
from jobs.durations import parse_duration
from jobs.ids import parse_id
from jobs.platform import Platform
from jobs.records import Job, Receipt, Source
from jobs.repositories.borrowed import BorrowedConnection
from jobs.requests import JobRequest, job_request

Wait = str | float | timedelta | None


class Client:
    """A connection to the platform; safe to share between threads. Close it, or use it as a context manager."""

    def __init__(self, platform: Platform) -> None:
        defer_to_host()
        self._platform = platform
        self._opened = ExitStack()
        self._opened.callback(platform.close)

    @classmethod
    def from_env(cls) -> Self:
        """Connect as CALLBOARD_* and callboard.toml say; without URLs, to the embedded servers of the data folder."""
        defer_to_host()
        settings = load_settings()
        opened = ExitStack()
        urls = opened.enter_context(servers(settings))
        client = cls(Platform(sqlalchemy_url(urls.database_url), urls.redis_url))
        opened.push(client._opened.pop_all())
        client._opened = opened
        return client

    def enqueue(
        self,
        name: str,
        kwargs: dict[str, Any] | None = None,
        *,
        connection: Connection | psycopg.Connection[Any] | None = None,
        **options: Any,
    ) -> Job:
        """Accept one job; when this returns, it is committed.

        options: args, queue, run_at or delay ("1h"), priority (0..9), unique_key, on_conflict, tags, max_attempts,
        timeout, expires_at, unchecked.
        connection: enqueue inside this connection's transaction; the job is there when, and only when, it commits.
        Raises UnknownJob, InvalidArguments, InvalidInput, Conflict or Unavailable; then nothing was written.
        """
        request = job_request({"name": name, "kwargs": kwargs or {}, **options})
        if connection is None:
            return self.get(self._platform.enqueue.one(request, current_source()).id)
        lent = BorrowedConnection(connection) if isinstance(connection, psycopg.Connection) else connection
        within = cast("Connection", lent)
        receipt = self._platform.enqueue.within(within, [request], current_source())[0]
        return self._platform.jobs.get_within(within, receipt.id)

    def enqueue_many(self, name: str, kwargs: Sequence[dict[str, Any]], **options: Any) -> list[UUID]:
        """Accept one job for each of these arguments, all of them or none; returns ids in their order."""
        base = {"name": name, **options}
        requests = [job_request({**base, "kwargs": one}) for one in kwargs]
        return [receipt.id for receipt in self._platform.enqueue.many(requests, current_source())]

    def accept(self, request: JobRequest, source: Source) -> Receipt:
        """Accept a request that is already read; what brokers call."""
        return self._platform.enqueue.one(request, source)

    def get(self, job_id: UUID | str) -> Job:
        """The job; raises NotFound."""
        return self._platform.jobs.get(_id(job_id))

    def wait(self, job_id: UUID | str, timeout: Wait = None) -> Job:
        """The job once it is in a terminal state; `timeout` in seconds or as "30s". Raises WaitTimeout."""
        return self._platform.waiting.wait(_id(job_id), _span(timeout))

    def cancel(self, job_id: UUID | str) -> Job:
        """End a job that has not begun; ask a running one to stop."""
        return self._platform.control.cancel(_id(job_id))

    def retry(self, job_id: UUID | str) -> Job:
        """Queue a finished job again, with a fresh budget of attempts."""
        return self._platform.control.rerun(_id(job_id))

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _id(job_id: UUID | str) -> UUID:
    return job_id if isinstance(job_id, UUID) else parse_id(job_id, what="job id")


def _span(timeout: Wait) -> timedelta | None:
    if timeout is None or isinstance(timeout, timedelta):
        return timeout
    return parse_duration(timeout) if isinstance(timeout, str) else timedelta(seconds=timeout)
