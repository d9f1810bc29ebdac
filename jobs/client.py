"""The client: other Python programs use it to enqueue jobs, read them and wait for them."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import Any, Final, Literal, Self, Unpack
from uuid import UUID

from callboard.config.addresses import check_postgres_url, check_redis_url
from callboard.config.embedded import servers
from callboard.config.logging import defer_to_host
from callboard.config.settings import Settings, load_settings, sqlalchemy_url
from callboard.jobs.attempts.job_logs import GATHER_LIMIT
from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.definitions.own_code import OWN_CODE, name_of_job
from callboard.jobs.enqueue.lent_batches import write_lent
from callboard.jobs.errors import InvalidInput
from callboard.jobs.lent_enqueue import enqueue_lent
from callboard.jobs.model.basics.durations import parse_duration
from callboard.jobs.model.basics.ids import parse_id
from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA
from callboard.jobs.model.current import current_source
from callboard.jobs.model.job import Job
from callboard.jobs.model.job_reference import NamedJob
from callboard.jobs.model.job_type import PublishedVersion
from callboard.jobs.model.new_job import Batch
from callboard.jobs.model.queue_limits import Limits, Rate
from callboard.jobs.model.request import EnqueueOptions, job_request
from callboard.jobs.operate.control import BULK_LIMIT, Bulk
from callboard.jobs.operate.selection import bulk_filter, bulk_verb
from callboard.jobs.operate.why import Explanation
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.callers.kinds import CallersConnection
from callboard.jobs.postgres.callers.lent import lent

Wait = str | float | timedelta | None
#: The connections that a client keeps open. While more are needed, it opens as many again.
POOL_SIZE: Final = 5


class Client:
    """A connection to the platform. Threads may share it. Close it, or use it as a context manager.

    Without settings of the environment: `Client(database_url="postgresql://...", redis_url="redis://...")`.
    """

    def __init__(self, *, database_url: str, redis_url: str, schema: str = DEFAULT_SCHEMA) -> None:
        self._use(platform_at(database_url, redis_url, schema))

    @classmethod
    def over(cls, platform: Platform, opened: ExitStack | None = None) -> Self:
        """Return a client that uses these services. It closes them, and then what is `opened`."""
        client = cls.__new__(cls)
        client._use(platform, opened)  # noqa: SLF001 - its own class
        return client

    @classmethod
    def from_env(cls) -> Self:
        """Connect with the settings in force; without URLs, to the embedded servers in the data folder."""
        return cls.from_settings(load_settings())

    @classmethod
    def from_settings(cls, settings: Settings, *, pool_size: int = POOL_SIZE) -> Self:
        """Do what `from_env` does, with these settings."""
        opened = ExitStack()
        urls = opened.enter_context(servers(settings))
        database_url, schema = sqlalchemy_url(urls.database_url), settings.schema_name
        platform = Platform(
            database_url, urls.redis_url, schema=schema, pool_size=pool_size, app=settings.app
        )
        return cls.over(platform, opened)

    def _use(self, platform: Platform, opened: ExitStack | None = None) -> None:
        defer_to_host()
        self._platform = platform
        self._opened = opened or ExitStack()
        self._opened.callback(platform.close)

    def enqueue(
        self,
        job: str | NamedJob,
        kwargs: Mapping[str, Any] | None = None,
        *,
        connection: CallersConnection | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Job:
        """Enqueue one job and return it; when this returns, the job is committed.

        job:        its name, or the job itself. With CALLBOARD_APP, a job of this application is found by its
                    bare name first.
        kwargs:     its named arguments.
        connection: enqueue in this connection's transaction. The job exists only if that commits. It is a
                    connection of psycopg, SQLAlchemy or Django, or a SQLAlchemy Session.
        options:    see EnqueueOptions.

        When the unique key is held, the job that holds it is returned. With on_conflict="replace", that job
        first gets these arguments and this time. Raises UnknownJob, InvalidArguments, InvalidInput, Conflict
        (on_conflict="reject") or Unavailable. After an error nothing was written, with one exception: after
        Unavailable the job may be committed, if the connection broke between the commit and the answer. With
        a unique_key it is safe to enqueue again.
        """
        name = name_of_job(job)
        request = job_request({**options, "name": name, "kwargs": {} if kwargs is None else kwargs})
        request = self._platform.catalogue.in_app(request)
        enqueue, jobs = self._platform.enqueue, self._platform.jobs
        batch = enqueue.check(request, current_source())
        if connection is None:
            return jobs.enqueued(batch, enqueue.accept(batch))
        return enqueue_lent(self._platform, batch, connection)

    def enqueue_many(
        self,
        job: str | NamedJob,
        kwargs: Iterable[Mapping[str, Any]],
        *,
        connection: CallersConnection | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> list[UUID]:
        """Enqueue one job for each item of arguments, all or none; return the ids in the same order.

        connection: as for `enqueue`. An error names its job: `jobs[3]: kwargs.month: missing`.
        """
        batch = self.check_many(job, kwargs, **options)
        if batch is None:
            return []
        enqueue = self._platform.enqueue
        if connection is None:
            return enqueue.accept(batch).ids
        return write_lent(enqueue, lent(connection, self._platform.database.schema), batch).ids

    def check_many(
        self, job: str | NamedJob, kwargs: Iterable[Mapping[str, Any]], **options: Unpack[EnqueueOptions]
    ) -> Batch | None:
        """Return the jobs of `enqueue_many`, checked and not written; None if there are none."""
        every = [one if type(one) is dict else _as_dict(one) for one in kwargs]
        if not every:
            return None
        # One request is validated for all: to validate each would cost more than all else.
        request = self._platform.catalogue.in_app(job_request({**options, "name": name_of_job(job)}))
        return self._platform.enqueue.check_arguments(request, every, current_source())

    def publish(self) -> list[PublishedVersion]:
        """Publish the jobs that this process has imported, as `callboard job publish` does.

        Their versions become the newest, and count as live for a day without a worker.
        """
        return self._platform.catalogue.publish(OWN_CODE.types(), announced=True)

    @property
    def platform(self) -> Platform:
        """Return the services that this client uses. Brokers use them too."""
        return self._platform

    def get(self, job_id: UUID | str) -> Job:
        """Return the job; raises NotFound."""
        return self._platform.jobs.get(job_uuid(job_id))

    def wait(self, job_id: UUID | str, timeout: Wait = None) -> Job:
        """Return the job once it has ended; `timeout` in seconds or as "30s". Raises WaitTimeout."""
        return self._platform.waiting.wait(job_uuid(job_id), wait_span(timeout))

    def cancel(self, job_id: UUID | str, *, force: bool = False) -> Job:
        """Cancel a job that has not started; ask a running job to stop.

        force: kill the process that runs the job if the job does not stop within seconds.
        """
        return self._platform.control.cancel(job_uuid(job_id), force=force)

    def retry(self, job_id: UUID | str) -> Job:
        """Queue a finished job again, with its full number of attempts."""
        return self._platform.control.rerun(job_uuid(job_id))

    def delete(self, job_id: UUID | str) -> None:
        """Delete a finished job and its log."""
        self._platform.control.delete(job_uuid(job_id))

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
        return self._platform.job_logs.newest(job_uuid(job_id), attempt=attempt, limit=limit)

    def why(self, job_id: UUID | str) -> Explanation:
        """Explain why a job is not running: the reasons that apply now, the most important first.

        Raises NotFound.
        """
        return self._platform.why.explain(job_uuid(job_id))

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


def platform_at(database_url: str, redis_url: str, schema: str, *, pool_size: int = POOL_SIZE) -> Platform:
    """Return the services over these servers. Raises InvalidInput, which names the bad URL or the schema."""
    given = {"database_url": database_url, "redis_url": redis_url}
    for name, url in given.items():
        try:
            if not isinstance(url, str):
                raise ValueError("a URL is expected")  # noqa: TRY004 - the same error as for a bad URL
            if name == "redis_url":
                given[name] = check_redis_url(url)
            else:
                given[name] = sqlalchemy_url(check_postgres_url(url, has_default_database=False))
        except ValueError as error:
            raise InvalidInput(f"{name}: {error}", fields={name: str(error)}) from None
    return Platform(given["database_url"], given["redis_url"], schema=schema, pool_size=pool_size)


def configured_middleware() -> tuple[str, ...]:
    """Return the middleware that CALLBOARD_MIDDLEWARE names."""
    return load_settings().middleware


@cache
def configured_app() -> str | None:
    """Return the namespace of this application's jobs, which CALLBOARD_APP sets."""
    return load_settings().app


def _as_dict(arguments: Any) -> Any:
    return dict(arguments) if isinstance(arguments, Mapping) else arguments


def job_uuid(job_id: UUID | str) -> UUID:
    """Return a job's id, which may be given as a text. Raises InvalidInput."""
    return job_id if isinstance(job_id, UUID) else parse_id(job_id, what="job id")


def wait_span(timeout: Wait) -> timedelta | None:
    """Return how long to wait; None: without limit. Raises InvalidInput."""
    if timeout is None or isinstance(timeout, timedelta):
        return timeout
    if isinstance(timeout, str):
        return parse_duration(timeout)
    try:
        return timedelta(seconds=timeout)
    except (OverflowError, TypeError, ValueError):
        problem = "a number of seconds, a timedelta, or a text such as 30s is expected"
        raise InvalidInput(f"timeout: {problem}", fields={"timeout": problem}) from None
