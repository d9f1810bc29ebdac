"""The client: other Python programs use it to enqueue jobs, read them and wait for them."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, Unpack
from uuid import UUID

import psycopg
from sqlalchemy import Connection

from callboard.config.embedded import servers
from callboard.config.logging import defer_to_host
from callboard.config.settings import load_settings, sqlalchemy_url
from callboard.jobs.attempts.job_logs import GATHER_LIMIT
from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.model.basics.durations import parse_duration
from callboard.jobs.model.basics.ids import parse_id
from callboard.jobs.model.current import current_source
from callboard.jobs.model.job import Job
from callboard.jobs.model.queue_limits import Limits, Rate
from callboard.jobs.model.request import EnqueueOptions, job_request
from callboard.jobs.operate.control import BULK_LIMIT, Bulk
from callboard.jobs.operate.selection import bulk_filter, bulk_verb
from callboard.jobs.operate.why import Explanation
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.lent import lent

Wait = str | float | timedelta | None


class Client:
    """A connection to the platform. Threads may share it. Close it, or use it as a context manager."""

    def __init__(self, platform: Platform) -> None:
        defer_to_host()
        self._platform = platform
        self._opened = ExitStack()
        self._opened.callback(platform.close)

    @classmethod
    def from_env(cls) -> Self:
        """Connect with the settings in force; without URLs, to the embedded servers in the data folder."""
        defer_to_host()
        settings = load_settings()
        opened = ExitStack()
        urls = opened.enter_context(servers(settings))
        client = cls(Platform(sqlalchemy_url(urls.database_url), urls.redis_url, schema=settings.schema_name))
        opened.push(client._opened.pop_all())
        client._opened = opened
        return client

    def enqueue(
        self,
        name: str,
        kwargs: Mapping[str, Any] | None = None,
        *,
        connection: Connection | psycopg.Connection[Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Job:
        """Enqueue one job and return it; when this returns, the job is committed.

        kwargs:     the job's named arguments.
        connection: enqueue in this connection's transaction. The job exists only if that commits.
        options:    see EnqueueOptions.

        When the unique key is held, the job that holds it is returned. With on_conflict="replace", that job
        first gets these arguments and this time. Raises UnknownJob, InvalidArguments, InvalidInput, Conflict
        (on_conflict="reject") or Unavailable. After an error nothing was written, with one exception: after
        Unavailable the job may be committed, if the connection broke between the commit and the answer. With
        a unique_key it is safe to enqueue again.
        """
        request = job_request({**options, "name": name, "kwargs": {} if kwargs is None else kwargs})
        enqueue, jobs = self._platform.enqueue, self._platform.jobs
        batch = enqueue.check(request, current_source())
        if connection is None:
            return jobs.enqueued(batch, enqueue.accept(batch))
        statements = lent(connection, self._platform.database.schema)
        return jobs.get_within(statements, enqueue.within(statements, batch).ids[0])

    def enqueue_many(
        self, name: str, kwargs: Iterable[Mapping[str, Any]], **options: Unpack[EnqueueOptions]
    ) -> list[UUID]:
        """Enqueue one job for each item of arguments, all or none; return the ids in the same order.

        An error names its job: `jobs[3]: kwargs.month: missing`.
        """
        every = [one if type(one) is dict else _as_dict(one) for one in kwargs]
        if not every:
            return []
        # One request is validated for all: to validate each would cost more than all else.
        request = job_request({**options, "name": name})
        enqueue = self._platform.enqueue
        return enqueue.accept(enqueue.check_arguments(request, every, current_source())).ids

    @property
    def platform(self) -> Platform:
        """Return the services that this client uses. Brokers use them too."""
        return self._platform

    def get(self, job_id: UUID | str) -> Job:
        """Return the job; raises NotFound."""
        return self._platform.jobs.get(_id(job_id))

    def wait(self, job_id: UUID | str, timeout: Wait = None) -> Job:
        """Return the job once it has ended; `timeout` in seconds or as "30s". Raises WaitTimeout."""
        return self._platform.waiting.wait(_id(job_id), _span(timeout))

    def cancel(self, job_id: UUID | str, *, force: bool = False) -> Job:
        """Cancel a job that has not started; ask a running job to stop.

        force: kill the process that runs the job if the job does not stop within seconds.
        """
        return self._platform.control.cancel(_id(job_id), force=force)

    def retry(self, job_id: UUID | str) -> Job:
        """Queue a finished job again, with its full number of attempts."""
        return self._platform.control.rerun(_id(job_id))

    def delete(self, job_id: UUID | str) -> None:
        """Delete a finished job and its log."""
        self._platform.control.delete(_id(job_id))

    def bulk(
        self,
        verb: Literal["cancel", "retry", "delete"],
        *,
        dry_run: bool = False,
        limit: int = BULK_LIMIT,
        **which: Any,
    ) -> Bulk:
        """Apply a verb to the oldest `limit` jobs that match; with `dry_run` only count them.

        which: state (one or several), queue, name, tag, since, until (a time, or "1h" for an hour ago),
               search. At least one of them is needed, unless it is a dry run.
        """
        return self._platform.control.bulk(
            bulk_verb(verb), bulk_filter(which, dry_run=dry_run), limit=limit, dry_run=dry_run
        )

    def logs(
        self, job_id: UUID | str, *, attempt: int | None = None, limit: int = GATHER_LIMIT
    ) -> list[JobLogLine]:
        """Return the newest `limit` log lines of a job, oldest first; of one attempt or of all.

        Raises NotFound.
        """
        return self._platform.job_logs.newest(_id(job_id), attempt=attempt, limit=limit)

    def why(self, job_id: UUID | str) -> Explanation:
        """Explain why a job is not running: the reasons that apply now, the most important first.

        Raises NotFound.
        """
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
        """Replace all limits of a queue. They apply at once to all workers. None means no limit.

        concurrency: jobs that run at once.
        rate:        jobs that start within any period, as "100/1m".
        key_concurrency, key_rate: the same for each limit key.

        Raises InvalidInput.
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
    """Return the middleware that CALLBOARD_MIDDLEWARE names."""
    return load_settings().middleware


def _as_dict(arguments: Any) -> Any:
    return dict(arguments) if isinstance(arguments, Mapping) else arguments


def _id(job_id: UUID | str) -> UUID:
    return job_id if isinstance(job_id, UUID) else parse_id(job_id, what="job id")


def _span(timeout: Wait) -> timedelta | None:
    if timeout is None or isinstance(timeout, timedelta):
        return timeout
    return parse_duration(timeout) if isinstance(timeout, str) else timedelta(seconds=timeout)
