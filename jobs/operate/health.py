"""The checks of `callboard doctor`: what may keep the platform from working, and how to repair it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from callboard.jobs.definitions import repository as job_types_repository
from callboard.jobs.errors import CallboardError, Unavailable
from callboard.jobs.model.job_type import JobVersion
from callboard.jobs.operate.key_sharing import SHARED_KEYS_REMEDY, databases_of
from callboard.jobs.operate.repository import diagnosing
from callboard.jobs.postgres.database import Database, driver_of
from callboard.jobs.postgres.migrating import Migrations
from callboard.jobs.redis.diagnosis import RedisDiagnosis, diagnose
from callboard.jobs.redis.faults import Cause, RedisUnavailable

Status = Literal["ok", "warn", "fail"]

_OLDEST_POSTGRES: Final = 140_000
_OLDEST_REDIS: Final = (7, 0)
_MAX_NAMED: Final = 3
#: The keys of at most this many queues are looked at.
_MAX_QUEUES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `mend` says what to do when the status is not ok."""

    name: str
    status: Status
    message: str
    mend: str | None = None


def check_writable(database: Database) -> None:
    """Raise Unavailable unless Postgres answers and accepts writes. A standby does not."""
    with database.autocommit() as connection:
        if diagnosing.is_read_only(connection):
            raise Unavailable("Postgres is read-only; it may be a standby")


class HealthChecks:
    """Checks Postgres, Redis, the scheduler and the workers. Changes nothing."""

    def __init__(
        self, database: Database, redis_url: str, migrations: Migrations, *, direct: Database | None = None
    ) -> None:
        """direct: the same database without a pooler between, if the settings name it."""
        self._database = database
        self._direct = direct
        self._redis_url = redis_url
        self._migrations = migrations

    def checks(self) -> Iterator[Check]:
        """Yield the result of every check. Checks that depend on a failed one are left out."""
        database = self._postgres()
        yield database
        if database.status != "fail":
            yield from self._pooler()
        tables = None if database.status == "fail" else self._tables()
        if tables:
            yield tables
        yield from self._redis(with_tables=tables is not None and tables.status == "ok")
        if tables and tables.status != "fail":
            yield self._storage()
            yield self._leader()
            yield from self._workers()

    def _postgres(self) -> Check:
        try:
            check_writable(self._database)
            with self._database.autocommit() as connection:
                version = diagnosing.server_version(connection)
        except Unavailable as error:
            return Check(
                "postgres", "fail", error.message, "start Postgres, or correct CALLBOARD_DATABASE_URL"
            )
        server = f"Postgres {version // 10_000}.{version % 10_000}"
        if version < _OLDEST_POSTGRES:
            return Check("postgres", "fail", f"{server} is too old", "move to Postgres 14 or later")
        return Check("postgres", "ok", server)

    def _pooler(self) -> Iterator[Check]:
        with self._database.autocommit() as connection:
            is_pooled, server = driver_of(connection).is_pooled, diagnosing.server_identity(connection)
        if self._direct is None:
            if is_pooled:
                yield Check(
                    "pooler", "warn", "CALLBOARD_DATABASE_URL leads to a pooler, which workers, the scheduler"
                    " and migrations cannot use", "set CALLBOARD_DATABASE_DIRECT_URL where they run",
                )  # fmt: skip
            return
        try:
            with self._direct.autocommit() as connection:
                is_same = diagnosing.server_identity(connection) == server
        except Unavailable as error:
            yield Check("direct", "fail", error.message, "correct CALLBOARD_DATABASE_DIRECT_URL")
            return
        if is_same:
            yield Check("direct", "ok", "CALLBOARD_DATABASE_DIRECT_URL leads to the same database")
        else:
            yield Check(
                "direct", "fail", "CALLBOARD_DATABASE_DIRECT_URL leads to another database", "correct it"
            )

    def _tables(self) -> Check:
        try:
            status = self._migrations.status()
        except CallboardError as error:
            return Check("tables", "fail", error.message, "run 'callboard db upgrade'")
        if status.up_to_date:
            return Check("tables", "ok", f"at version {status.needed}")
        if status.is_newer:
            return Check(
                "tables",
                "warn",
                f"at version {status.current}, newer than this program ({status.needed})",
                "install the new version here, and restart",
            )
        return Check(
            "tables",
            "fail",
            f"at version {status.current or 'none'}, {status.needed} is needed",
            "run 'callboard db upgrade'",
        )

    def _redis(self, *, with_tables: bool) -> Iterator[Check]:
        """Yield what is wrong with Redis. Jobs run without it, so almost all of this is a warning."""
        queues: list[str] = []
        own = ""
        if with_tables:
            with self._database.autocommit() as connection:
                queues = diagnosing.queue_names(connection, _MAX_QUEUES)
                own = diagnosing.installation(connection)
        try:
            found = diagnose(self._redis_url, self._database.schema, queues)
        except RedisUnavailable as error:
            yield Check("redis", "warn", error.message, error.cause.remedy)
            return
        problems = list(_redis_problems(found, own))
        yield from problems or [Check("redis", "ok", _server(found))]

    def _storage(self) -> Check:
        with self._database.autocommit() as connection:
            tables = diagnosing.largest_tables(connection, _MAX_NAMED)
        named = [f"{one.name} {one.bytes / 2**20:,.1f} MiB (about {one.rows:,} rows)" for one in tables]
        return Check("storage", "ok", f"the largest tables: {', '.join(named)}")

    def _leader(self) -> Check:
        with self._database.autocommit() as connection:
            leads = diagnosing.has_leader(connection)
        if leads:
            return Check("scheduler", "ok", "one leads")
        return Check(
            "scheduler", "warn", "none leads: schedules do not tick, retries and delayed jobs wait",
            "run 'callboard run scheduler' or 'callboard up'",
        )  # fmt: skip

    def _workers(self) -> Iterator[Check]:
        with self._database.autocommit() as connection:
            live = diagnosing.live_workers(connection)
            unserved = diagnosing.unserved_queues(connection)
            unknown = diagnosing.unknown_jobs(connection) if live else {}
            put_off = diagnosing.put_off(connection)
            without_version = diagnosing.without_version(connection) if live and put_off else {}
            paused = diagnosing.paused_queues(connection)
            suspects = diagnosing.suspects(connection)
            versions = job_types_repository.every(connection)
        if live:
            yield Check("workers", "ok", f"{live} live")
        else:
            yield Check(
                "workers", "warn", "none is live: no job runs", "run 'callboard run worker' or 'callboard up'"
            )
        if live and unserved:
            yield Check(
                "queues", "warn", f"jobs are queued where no worker serves: {_some(unserved)}",
                "add the queue to a worker's CALLBOARD_QUEUES",
            )  # fmt: skip
        if unknown:
            yield Check(
                "jobs", "warn", f"jobs are queued that no live worker defines: {_some(unknown)}",
                "add their module to CALLBOARD_JOBS of a worker, or cancel them",
            )  # fmt: skip
        yield from _versions(versions)
        if without_version:
            yield Check(
                "no version", "warn",
                f"jobs wait for a version that no live worker runs: {_some(without_version)}",
                "start a worker with that version, or cancel them; 'callboard job why ID' names the versions",
            )  # fmt: skip
        for name, number, reason in put_off[:_MAX_NAMED]:
            yield Check(
                "put off", "warn", f"workers put off what they cannot run: {name} ({number:,}), {reason}",
                "start workers with the code that these jobs need, or cancel them:"
                " 'callboard job cancel --name NAME'",
            )  # fmt: skip
        if len(put_off) > _MAX_NAMED:
            yield Check(
                "put off", "warn", f"and jobs of {len(put_off) - _MAX_NAMED} more names",
                "'callboard job why ID' explains each job",
            )  # fmt: skip
        if suspects:
            yield Check(
                "suspects", "warn",
                f"jobs wait for their run alone, because workers died while they ran: {_some(suspects)}",
                "workers run each alone to find the cause; docs/how-to/crashes.md explains it",
            )  # fmt: skip
        if paused:
            yield Check(
                "paused",
                "warn",
                f"paused queues: {', '.join(paused[:_MAX_NAMED])}",
                "run 'callboard queue resume QUEUE'",
            )


def _versions(versions: list[JobVersion]) -> Iterator[Check]:
    """Yield which jobs have several live versions, and which names several modules define."""
    live: dict[str, list[JobVersion]] = {}
    for one in versions:
        if one.workers:
            live.setdefault(one.type.name, []).append(one)
    several = {name: len(found) for name, found in live.items() if len(found) > 1}
    modules = {name: {one.type.module for one in found if one.type.module} for name, found in live.items()}
    shared = {name: sorted(found) for name, found in modules.items() if len(found) > 1}
    if several:
        yield Check(
            "versions", "warn", f"workers run several versions of a job: {_some(several)}",
            "in a deploy this is normal; else restart old workers: 'callboard job types' shows the versions",
        )  # fmt: skip
    for name, found in list(shared.items())[:_MAX_NAMED]:
        yield Check(
            "names", "warn", f"modules of the same job name take each other's jobs: {name} is defined in"
            f" {', '.join(found)}", "keep the names apart: @job(namespace=...) or CALLBOARD_APP",
        )  # fmt: skip


def _server(found: RedisDiagnosis) -> str:
    return f"{found.product} {found.version}" if found.version else "answers; its version is not known"


def _redis_problems(found: RedisDiagnosis, own: str) -> Iterator[Check]:
    server = _server(found)
    if found.version and _numbers(found.version) < _OLDEST_REDIS:
        yield Check("redis", "fail", f"{server} is too old", "move to Redis or Valkey 7.0 or later")
    if found.missing_rights:
        yield Check(
            "redis", "warn", f"the Redis user lacks rights: {', '.join(found.missing_rights)}",
            Cause.NO_RIGHT.remedy,
        )  # fmt: skip
    if found.eviction_policy not in {None, "noeviction"}:
        yield Check(
            "redis",
            "warn",
            f"{server} evicts keys when it is full (maxmemory-policy {found.eviction_policy})",
            "set maxmemory-policy to noeviction; what is evicted is fed again, but late",
        )  # fmt: skip
    for key, kind in list(found.foreign.items())[:_MAX_NAMED]:
        yield Check(
            "redis", "warn", f"the key {key} has a value of another program (type {kind})",
            "rename or delete it; or wait: the next process that uses the key renames it",
        )  # fmt: skip
    for key in found.set_aside[:_MAX_NAMED]:
        yield Check(
            "redis", "warn", f"another program wrote a key of Callboard; its value is now in {key}",
            "keep other programs from Callboard's keys, and delete or rename this one",
        )  # fmt: skip
    others = databases_of([owner for owner in found.owners if own and owner != own])
    if others:
        yield Check(
            "redis", "warn", f"another installation uses the same keys; its database is {', '.join(others)}",
            SHARED_KEYS_REMEDY,
        )  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _some(counts: Mapping[str, int]) -> str:
    named = [f"{name} ({number:,})" for name, number in list(counts.items())[:_MAX_NAMED]]
    return ", ".join(named) + (f" and {len(counts) - _MAX_NAMED} more" if len(counts) > _MAX_NAMED else "")
