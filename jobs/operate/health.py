"""What may keep the platform from working, each with its mend; `callboard doctor` shows it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import redis

from callboard.jobs.errors import CallboardError, Unavailable
from callboard.jobs.operate.repository import diagnosing
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.migrating import Migrations
from callboard.jobs.redis.link import unavailable

Status = Literal["ok", "warn", "fail"]

_OLDEST_POSTGRES: Final = 140_000
_OLDEST_REDIS: Final = (7, 0)
_PATIENCE: Final = 3.0
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `mend` says what to do when the status is not ok."""

    name: str
    status: Status
    message: str
    mend: str | None = None


class Health:
    """Looks at Postgres, Redis, the scheduler and the workers; changes nothing."""

    def __init__(self, database: Database, redis_url: str, migrations: Migrations) -> None:
        self._database = database
        self._redis_url = redis_url
        self._migrations = migrations

    def checks(self) -> Iterator[Check]:
        """Every check in turn; what cannot be asked, because something before it failed, is left out."""
        database = self._postgres()
        yield database
        tables = None if database.status == "fail" else self._tables()
        if tables:
            yield tables
        yield self._redis()
        if tables and tables.status == "ok":
            yield self._leader()
            yield from self._workers()

    def _postgres(self) -> Check:
        try:
            with self._database.autocommit() as connection:
                version = diagnosing.server_version(connection)
        except Unavailable as error:
            return Check("postgres", "fail", error.message, "start Postgres, or mend CALLBOARD_DATABASE_URL")
        told = f"Postgres {version // 10_000}.{version % 10_000}"
        if version < _OLDEST_POSTGRES:
            return Check("postgres", "fail", f"{told} is too old", "move to Postgres 14 or later")
        return Check("postgres", "ok", told)

    def _tables(self) -> Check:
        try:
            status = self._migrations.status()
        except CallboardError as error:
            return Check("tables", "fail", error.message, "run 'callboard db upgrade'")
        if status.up_to_date:
            return Check("tables", "ok", f"at version {status.needed}")
        return Check(
            "tables",
            "fail",
            f"at version {status.current or 'none'}, {status.needed} is needed",
            "run 'callboard db upgrade'",
        )

    def _redis(self) -> Check:
        try:
            info, policy = self._ask_redis()
        except Unavailable as error:
            # Jobs are safe without it, but slower.
            return Check("redis", "fail", error.message, "start Redis, or mend CALLBOARD_REDIS_URL")
        name, version = _redis_version(info)
        told = f"{name} {version}"
        if _numbers(version) < _OLDEST_REDIS:
            return Check("redis", "fail", f"{told} is too old", "move to Redis or Valkey 7.0 or later")
        if policy not in {None, "noeviction"}:
            return Check(
                "redis", "warn", f"{told} evicts keys when it is full (maxmemory-policy {policy})",
                "set maxmemory-policy to noeviction; what is evicted is fed again, but late",
            )  # fmt: skip
        return Check("redis", "ok", told)

    def _ask_redis(self) -> tuple[Mapping[str, Any], str | None]:
        with unavailable():
            client = redis.Redis.from_url(
                self._redis_url,
                socket_timeout=_PATIENCE,
                socket_connect_timeout=_PATIENCE,
                decode_responses=True,
            )
            with client:
                info, policy = client.info("server"), client.info("memory").get("maxmemory_policy")
                # One that is full, read-only or unable to save answers, and is of no use.
                client.set("callboard:check", b"", px=1_000)
                return info, policy

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
            paused = diagnosing.paused_queues(connection)
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
        for name, number, reason in put_off[:_NAMED]:
            yield Check(
                "put off", "warn", f"workers put off what they cannot run: {name} ({number:,}), {reason}",
                "start workers with the code that these jobs need, or cancel them: 'callboard job cancel --name NAME'",
            )  # fmt: skip
        if len(put_off) > _NAMED:
            yield Check(
                "put off", "warn", f"and jobs of {len(put_off) - _NAMED} more names",
                "'callboard job why ID' tells for each",
            )  # fmt: skip
        if paused:
            yield Check(
                "paused",
                "warn",
                f"paused queues: {', '.join(paused[:_NAMED])}",
                "run 'callboard queue resume QUEUE'",
            )


def _redis_version(info: Mapping[str, Any]) -> tuple[str, str]:
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info.get("redis_version", "0"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _some(counts: Mapping[str, int]) -> str:
    named = [f"{name} ({number:,})" for name, number in list(counts.items())[:_NAMED]]
    return ", ".join(named) + (f" and {len(counts) - _NAMED} more" if len(counts) > _NAMED else "")
