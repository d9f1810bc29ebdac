"""The domain put together: from two URLs to every service. Each entry point makes one and closes it."""

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from jobs.database import Database
from jobs.services.auth import Auth
from jobs.services.catalogue import Catalogue
from jobs.services.control import Control
from jobs.services.counters import Counters
from jobs.services.dispatching import Dispatching
from jobs.services.enqueue import Enqueue
from jobs.services.idempotency import Idempotency
from jobs.services.job_logs import JobLogs
from jobs.services.jobs import Jobs
from jobs.services.queues import Queues
from jobs.services.schedules import ReadCalendar, Schedules, Ticker
from jobs.services.waiting import Waiting
from jobs.services.why import Why
from jobs.services.workers import Workers
from jobs.transport import Transport

if TYPE_CHECKING:
    from jobs.services.intake import Intake
    from jobs.services.migrations import Migrations

DEFAULT_LEASE: Final = timedelta(seconds=30)


class Platform:
    """Every service over one database and one Redis; nothing connects before it is used."""

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        *,
        lease: timedelta = DEFAULT_LEASE,
        pool_size: int = 5,
        application: str = "callboard",
        redis_prefix: str = "callboard",
    ) -> None:
        self._lease = lease
        self.database = Database(database_url, pool_size=pool_size, application=application)
        self.transport = Transport(redis_url, prefix=redis_prefix)
        self.catalogue = Catalogue(self.database)
        self.enqueue = Enqueue(self.database, self.transport, self.catalogue)
        self.jobs = Jobs(self.database)

    @cached_property
    def control(self) -> Control:
        return Control(self.database, self.transport)

    @cached_property
    def dispatching(self) -> Dispatching:
        return Dispatching(self.database, self.enqueue)

    @cached_property
    def counters(self) -> Counters:
        return Counters(self.database)

    @cached_property
    def waiting(self) -> Waiting:
        return Waiting(self.jobs, self.transport)

    @cached_property
    def why(self) -> Why:
        return Why(self.database)

    @cached_property
    def job_logs(self) -> JobLogs:
        return JobLogs(self.database)

    @cached_property
    def queues(self) -> Queues:
        return Queues(self.database, self.transport)

    @cached_property
    def workers(self) -> Workers:
        return Workers(self.database, self.transport, ttl=self._lease)

    @cached_property
    def idempotency(self) -> Idempotency:
        return Idempotency(self.database)

    @cached_property
    def auth(self) -> Auth:
        return Auth(self.database)

    @cached_property
    def migrations(self) -> "Migrations":
        # Alembic is as much to import as all the rest, and only a migration needs it.
        from jobs.services.migrations import Migrations

        return Migrations(self.database)

    def schedules(self, calendar: ReadCalendar) -> Schedules:
        return Schedules(self.database, self.enqueue, calendar)

    def ticker(self, calendar: ReadCalendar) -> Ticker:
        return Ticker(self.database, self.enqueue, calendar)

    def intake(self, secret_key: str) -> "Intake":
        # What encrypts is 7 MiB, and a worker has no use for it.
        from jobs.secret_box import SecretBox
        from jobs.services.intake import Intake

        return Intake(self.database, self.enqueue, self.catalogue, SecretBox(secret_key))

    def close(self) -> None:
        if "waiting" in self.__dict__:
            self.waiting.close()
        self.enqueue.close()
        self.transport.close()
        self.database.close()
