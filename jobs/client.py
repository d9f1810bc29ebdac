"""Callboard from other Python programs: enqueue, look, wait."""

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, cast
from uuid import UUID

import psycopg
from sqlalchemy import Connection

from callboard.config.embedded import servers
from callboard.config.logging import defer_to_host
from callboard.config.settings import load_settings, sqlalchemy_url
from callboard.jobs.attempts.context import current_source
from callboard.jobs.attempts.job_logs import GATHER_LIMIT
from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.model.durations import parse_duration
from callboard.jobs.model.ids import parse_id
from callboard.jobs.model.job import Job
from callboard.jobs.model.queue_limits import Limits, Rate
from callboard.jobs.model.request import job_request
from callboard.jobs.operate.control import BULK_LIMIT, Bulk
from callboard.jobs.operate.listing import accepted
from callboard.jobs.operate.selection import bulk_filter, bulk_verb
from callboard.jobs.operate.why import Explanation
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.statements import LentConnection, LentSqlalchemy

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

        options: args; queue; run_at or delay ("1h"); expires_at; priority (0..9); tags; max_attempts, min_backoff and
        max_backoff; timeout and hard_timeout of an attempt; unique_key, unique_for (the key is held so long, whatever
        becomes of the job) and on_conflict (existing | replace | reject); limit_key; unchecked. What is not given is as
        the job's definition says.
        connection: enqueue inside this connection's transaction; the job is there when, and only when, it commits.
        When the unique key is held, the answer is the job that holds it, with on_conflict="replace" after it got these
        arguments and this time. Raises UnknownJob, InvalidArguments, InvalidInput, Conflict (on_conflict="reject") or
        Unavailable. Then nothing was written, but for one case: Postgres went away between its commit and its answer, and
        nobody knows. A unique_key makes it safe to enqueue again.
        """
        request = job_request({"name": name, "kwargs": kwargs or {}, **options})
        if connection is None:
            receipt, shown = self._platform.enqueue.accept(request, current_source())
            if shown is not None:
                return shown
            with accepted(receipt.id):
                return self.get(receipt.id)
        schema = self._platform.database.schema
        lent = (
            LentConnection(connection, schema)
            if isinstance(connection, psycopg.Connection)
            else LentSqlalchemy(connection, schema)
        )
        within = cast("Connection", lent)
        receipt = self._platform.enqueue.within(within, [request], current_source())[0]
        return self._platform.jobs.get_within(within, receipt.id)

    def enqueue_many(self, name: str, kwargs: Iterable[dict[str, Any]], **options: Any) -> list[UUID]:
        """Accept one job for each of these arguments, all of them or none; returns ids in their order."""
        kwargs = list(kwargs)
        if not kwargs:
            return []
        request = job_request({"name": name, "kwargs": kwargs[0], **options})
        for one in kwargs:
            # Reading a request is what costs most: the others are read only to say what is wrong with them.
            if not (isinstance(one, dict) and all(isinstance(key, str) for key in one)):
                job_request({"name": name, "kwargs": one, **options})
        return list(self._platform.enqueue.many_of(request, kwargs, current_source()))

    @property
    def platform(self) -> Platform:
        """The services behind this client; what brokers use."""
        return self._platform

    def get(self, job_id: UUID | str) -> Job:
        """The job; raises NotFound."""
        return self._platform.jobs.get(_id(job_id))

    def wait(self, job_id: UUID | str, timeout: Wait = None) -> Job:
        """The job once it is in a terminal state; `timeout` in seconds or as "30s". Raises WaitTimeout."""
        return self._platform.waiting.wait(_id(job_id), _span(timeout))

    def cancel(self, job_id: UUID | str, *, force: bool = False) -> Job:
        """End a job that has not begun; ask a running one to stop.

        force: when it does not stop within seconds, the process that runs it is killed.
        """
        return self._platform.control.cancel(_id(job_id), force=force)

    def retry(self, job_id: UUID | str) -> Job:
        """Queue a finished job again, with a fresh budget of attempts."""
        return self._platform.control.rerun(_id(job_id))

    def delete(self, job_id: UUID | str) -> None:
        """Remove a finished job, and what it logged."""
        self._platform.control.delete(_id(job_id))

    def bulk(
        self,
        verb: Literal["cancel", "retry", "delete"],
        *,
        dry_run: bool = False,
        limit: int = BULK_LIMIT,
        **which: Any,
    ) -> Bulk:
        """Do this to all jobs that fit, the oldest `limit` of them; with `dry_run` only count them.

        which: state (one or several), queue, name, tag, since, until (times, or "1h" for as long ago), search. At least one
        of them, unless it is a dry run.
        """
        return self._platform.control.bulk(
            bulk_verb(verb), bulk_filter(which, dry_run=dry_run), limit=limit, dry_run=dry_run
        )

    def logs(
        self, job_id: UUID | str, *, attempt: int | None = None, limit: int = GATHER_LIMIT
    ) -> list[JobLogLine]:
        """The newest `limit` lines that a job logged, oldest first; of one attempt, or of all. Raises NotFound."""
        return self._platform.job_logs.newest(_id(job_id), attempt=attempt, limit=limit)

    def why(self, job_id: UUID | str) -> Explanation:
        """Why a job is not running: the reasons that hold now, the most decisive first. Raises NotFound."""
        return self._platform.why.explain(_id(job_id))

    def limit_queue(
        self,
        queue: str,
        *,
        concurrency: int | None = None,
        rate: str | Rate | None = None,
        key_concurrency: int | None = None,
        key_rate: str | Rate | None = None,
    ) -> None:
        """Replace all limits of a queue, at once and for all workers; None is no limit.

        concurrency: jobs that run at once. rate: jobs that start within any such time, as "100/1m". key_concurrency,
        key_rate: the same of each limit key. Raises InvalidInput.
        """
        keyed = {"key_concurrency": key_concurrency, "key_rate": key_rate}
        self._platform.queues.limit(queue, Limits.read(concurrency=concurrency, rate=rate, **keyed))

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def configured_middleware() -> tuple[str, ...]:
    """What CALLBOARD_MIDDLEWARE names."""
    return load_settings().middleware


def _id(job_id: UUID | str) -> UUID:
    return job_id if isinstance(job_id, UUID) else parse_id(job_id, what="job id")


def _span(timeout: Wait) -> timedelta | None:
    if timeout is None or isinstance(timeout, timedelta):
        return timeout
    return parse_duration(timeout) if isinstance(timeout, str) else timedelta(seconds=timeout)
