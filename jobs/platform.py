"""The composition of the domain: makes every service from two URLs. Each entry point makes and closes one."""

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA
from callboard.jobs.postgres.database import Database

if TYPE_CHECKING:
    from callboard.jobs.access.api_keys import Auth
    from callboard.jobs.access.auth_failures import AuthFailures
    from callboard.jobs.attempts.job_logs import JobLogs
    from callboard.jobs.attempts.leases import Workers
    from callboard.jobs.counters.shared_counters import Counters
    from callboard.jobs.definitions.catalogue import Catalogue
    from callboard.jobs.enqueue.enqueue import Enqueue
    from callboard.jobs.feed.feed import Feed
    from callboard.jobs.followers.finish_hook import FollowerHook
    from callboard.jobs.idempotency.replay import Idempotency
    from callboard.jobs.inspection.inspection import Inspection
    from callboard.jobs.limits.grants import Grants
    from callboard.jobs.operate.control import Control
    from callboard.jobs.operate.key_sharing import KeySharing
    from callboard.jobs.operate.listing import Jobs
    from callboard.jobs.operate.queues import Queues
    from callboard.jobs.operate.waiting import Waiting
    from callboard.jobs.operate.why import Why
    from callboard.jobs.postgres.migrating import Migrations
    from callboard.jobs.redis.transport import Transport
    from callboard.jobs.retention.retention import Retention
    from callboard.jobs.schedules.manage import Schedules
    from callboard.jobs.schedules.ticker import Ticker
    from callboard.jobs.webhooks.history import DeliveryHistory
    from callboard.jobs.webhooks.intake import Intake

DEFAULT_LEASE: Final = timedelta(seconds=30)


class Platform:
    """Every service over one database and one Redis. Connections are opened on first use.

    schema:          the Postgres schema, and the prefix of every Redis key.
    enqueue_threads: how many groups of concurrent enqueues are written at the same time.
    app:             the namespace of this application's jobs: bare names are looked up in it first.
    allow_pooler:    False: this process needs sessions of its own, so a pooler is refused.
    lazy:            a service is made, and its modules are imported, at its first use: for a short command.
    """

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        *,
        lease: timedelta = DEFAULT_LEASE,
        pool_size: int = 5,
        application: str = "callboard",
        schema: str = DEFAULT_SCHEMA,
        enqueue_threads: int = 1,
        allow_pooler: bool = True,
        lazy: bool = False,
        app: str | None = None,
    ) -> None:
        self._lease = lease
        self._redis_url, self._schema = redis_url, schema
        self.database = Database(
            database_url, schema=schema, pool_size=pool_size, application=application,
            allow_pooler=allow_pooler,
        )  # fmt: skip
        self._app = app
        self._enqueue_threads = enqueue_threads
        if not lazy:
            # Here, because threads must not make two of them.
            _ = (self.enqueue, self.jobs)

    @cached_property
    def transport(self) -> "Transport":
        from callboard.jobs.redis.transport import Transport

        return Transport(self._redis_url, prefix=self._schema)

    @cached_property
    def catalogue(self) -> "Catalogue":
        from callboard.jobs.definitions.catalogue import Catalogue

        return Catalogue(self.database, app=self._app)

    @cached_property
    def enqueue(self) -> "Enqueue":
        from callboard.jobs.enqueue.enqueue import Enqueue

        return Enqueue(self.database, self.transport, self.catalogue, threads=self._enqueue_threads)

    @cached_property
    def jobs(self) -> "Jobs":
        from callboard.jobs.operate.listing import Jobs

        return Jobs(self.database)

    @cached_property
    def control(self) -> "Control":
        from callboard.jobs.operate.control import Control

        return Control(self.database, self.transport)

    @cached_property
    def followers(self) -> "FollowerHook":
        from callboard.jobs.followers.finish_hook import FollowerHook

        return FollowerHook(self.database, self.enqueue)

    @cached_property
    def counters(self) -> "Counters":
        from callboard.jobs.counters.shared_counters import Counters

        return Counters(self.database)

    @cached_property
    def waiting(self) -> "Waiting":
        from callboard.jobs.operate.waiting import Waiting

        return Waiting(self.jobs, self.transport)

    @cached_property
    def why(self) -> "Why":
        from callboard.jobs.operate.why import Why

        return Why(self.database)

    @cached_property
    def job_logs(self) -> "JobLogs":
        from callboard.jobs.attempts.job_logs import JobLogs

        return JobLogs(self.database)

    @cached_property
    def key_sharing(self) -> "KeySharing":
        from callboard.jobs.operate.key_sharing import KeySharing

        return KeySharing(self.database, self.transport)

    @cached_property
    def queues(self) -> "Queues":
        from callboard.jobs.operate.queues import Queues

        return Queues(self.database, self.transport)

    @cached_property
    def workers(self) -> "Workers":
        from callboard.jobs.attempts.leases import Workers

        return Workers(self.database, self.transport, ttl=self._lease)

    @cached_property
    def feed(self) -> "Feed":
        from callboard.jobs.feed.feed import Feed

        return Feed(self.database)

    @cached_property
    def grants(self) -> "Grants":
        from callboard.jobs.limits.grants import Grants

        return Grants(self.database)

    @cached_property
    def retention(self) -> "Retention":
        from callboard.jobs.retention.retention import Retention

        return Retention(self.database)

    @cached_property
    def inspection(self) -> "Inspection":
        from callboard.jobs.inspection.inspection import Inspection

        return Inspection(self.database)

    @cached_property
    def idempotency(self) -> "Idempotency":
        from callboard.jobs.idempotency.replay import Idempotency

        return Idempotency(self.database)

    @cached_property
    def auth(self) -> "Auth":
        from callboard.jobs.access.api_keys import Auth

        return Auth(self.database)

    @cached_property
    def migrations(self) -> "Migrations":
        from callboard.jobs.postgres.migrating import Migrations

        return Migrations(self.database)

    def auth_failures(self) -> "AuthFailures":
        """Make the limit on wrong keys for one app, which closes it."""
        from callboard.jobs.access.auth_failures import MOST_ADDRESSES, WINDOW, AuthFailures
        from callboard.jobs.redis.window_counter import WindowCounter

        counter = WindowCounter(
            self._redis_url, prefix=self._schema, name="auth-failures", window=WINDOW, most=MOST_ADDRESSES,
            faults=self.transport.faults,
        )  # fmt: skip
        return AuthFailures(counter)

    def schedules(self) -> "Schedules":
        # The calendars need APScheduler, which workers and clients do not.
        from callboard.jobs.schedules.manage import Schedules

        return Schedules(self.database, self.enqueue, self.catalogue)

    def ticker(self) -> "Ticker":
        from callboard.jobs.schedules.ticker import Ticker

        return Ticker(self.database, self.enqueue)

    def intake(self, secret_key: str) -> "Intake":
        # The encryption library takes 7 MiB of memory, and a worker does not need it.
        from callboard.jobs.webhooks.intake import Intake
        from callboard.jobs.webhooks.secret_box import SecretBox

        return Intake(self.database, self.enqueue, self.catalogue, SecretBox(secret_key))

    @cached_property
    def deliveries(self) -> "DeliveryHistory":
        from callboard.jobs.webhooks.history import DeliveryHistory

        return DeliveryHistory(self.database)

    def close(self) -> None:
        if "waiting" in self.__dict__:
            self.waiting.close()
        if "enqueue" in self.__dict__:
            self.enqueue.close()
        if "transport" in self.__dict__:
            self.transport.close()
        self.database.close()
