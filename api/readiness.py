"""Readiness: whether the API can accept jobs. The database must answer and have the right tables."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Thread
from typing import Final, Self

import structlog
from prometheus_client import Gauge

from callboard.jobs.errors import Busy, SchemaMismatch, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.operate.health import check_writable
from callboard.jobs.outage import Outage
from callboard.jobs.platform import Platform

READY: Final = Gauge("callboard_ready", "1 if the API can accept jobs.")
DEGRADED: Final = Gauge(
    "callboard_degraded", "1 if a check fails that is not needed to accept jobs.", ["check"]
)
#: A result is reused for this long, because anybody may send such requests. Seconds.
_FRESH_SECONDS: Final = 1.0
#: The check is repeated this often without any request, for the metrics and the log. Seconds.
_CHECK_EVERY: Final = 5.0
#: A check that takes longer has failed. Seconds.
_TIMEOUT: Final = 2.5
_OK: Final = "ok"
_UNAVAILABLE: Final = "unavailable"
_UNKNOWN: Final = "unknown"
_NO_ANSWER: Final = {"database": f"no answer within {_TIMEOUT:g} s", "migrations": _UNKNOWN}
_MISSING: Final = "missing; run 'callboard db upgrade'"
_NEWER: Final = "newer than this program; restart it with the new version"
_REFUSED: Final = "newer than this program, and do not fit it; restart it with the version that fits"

log = structlog.get_logger(__name__)


class ReadyStatus(StrEnum):
    """Whether jobs are accepted. DEGRADED: they are, but something that is not needed for it fails."""

    READY = "ready"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Readiness:
    """The result of all checks. Each value of `checks` is "ok" or a short text, without addresses.

    degraded: the checks that fail and are not needed to accept jobs.
    """

    status: ReadyStatus
    checks: dict[str, str]
    degraded: list[str]

    @property
    def accepts(self) -> bool:
        """Return whether jobs are accepted."""
        return self.status in {ReadyStatus.READY, ReadyStatus.DEGRADED}

    @classmethod
    def of(cls, checks: dict[str, str]) -> Self:
        """Return the result that follows from the checks."""
        failed = [name for name, result in checks.items() if result not in {_OK, _UNKNOWN}]
        degraded = [name for name in failed if name == "redis" or checks[name] == _NEWER]
        if failed != degraded:
            return cls(ReadyStatus.UNAVAILABLE, checks, degraded)
        return cls(ReadyStatus.DEGRADED if degraded else ReadyStatus.READY, checks, degraded)


class ReadinessCheck:
    """Checks the stores, at most once a second. All requests at the same time share one check.

    All methods run on one event loop. A check runs in a thread of its own, because a database that hangs may
    hold all other threads. There is never more than one such thread.
    """

    def __init__(self, platform: Platform, *, clock: Clock = SYSTEM) -> None:
        self._platform = platform
        self._clock = clock
        self._started_at = self._checked_at = float("-inf")
        self._running: asyncio.Future[Readiness] | None = None
        self._last: Readiness | None = None
        self._stopping = False
        self._refused = Outage(log, "api.readiness_refused", clock=clock)

    async def current(self) -> Readiness:
        """Return the result, which is at most about a second old. Takes at most a few seconds.

        Reasons are not in the result, only in the log.
        """
        found = self._last
        if found is None or self._clock.monotonic() - self._checked_at >= _FRESH_SECONDS:
            found = await self._check()
        return replace(found, status=ReadyStatus.STOPPING) if self._stopping else found

    async def keep_current(self) -> None:
        """Repeat the check until cancelled, so that the metrics and the log are current without requests."""
        while True:
            await self._check()
            await asyncio.sleep(_CHECK_EVERY)

    def stop(self) -> None:
        """Report "stopping" from now on."""
        self._stopping = True
        READY.set(0)

    async def _check(self) -> Readiness:
        """Return the result of the running check, or of a new one; a failure if it takes too long."""
        if self._running is None:
            self._running, self._started_at = self._start(), self._clock.monotonic()
        left = self._started_at + _TIMEOUT - self._clock.monotonic()
        done, _ = await asyncio.wait([self._running], timeout=max(left, 0))
        for ended in done:
            return ended.result()
        redis = self._last.checks["redis"] if self._last else _UNKNOWN
        return self._record(_NO_ANSWER | {"redis": redis}, {"database": _NO_ANSWER["database"]})

    def _start(self) -> "asyncio.Future[Readiness]":
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Readiness] = loop.create_future()

        def finish(checks: dict[str, str], reasons: dict[str, str]) -> None:
            self._running = None
            ended.set_result(self._record(checks, reasons))

        def run() -> None:
            reasons: dict[str, str] = {}
            try:
                checks = {**self._database(reasons), "redis": self._redis(reasons)}
            except Exception as error:
                # Without a result, every later request would wait for this check.
                log.exception("api.readiness_check_failed")
                reasons["database"] = f"the check failed: {type(error).__name__}"
                checks = {"database": _UNAVAILABLE, "migrations": _UNKNOWN, "redis": _UNKNOWN}
            # A check that hung may end after the server has stopped.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, checks, reasons)

        Thread(target=run, name="callboard-readiness", daemon=True).start()
        return ended

    def _record(self, checks: dict[str, str], reasons: dict[str, str]) -> Readiness:
        """Make this the last result, set the metrics, and log a change."""
        before, now = self._last, Readiness.of(checks)
        self._last, self._checked_at = now, self._clock.monotonic()
        READY.set(now.accepts and not self._stopping)
        for name in ("migrations", "redis"):
            DEGRADED.labels(name).set(name in now.degraded)
        known = (ReadyStatus.READY, []) if before is None else (before.status, before.degraded)
        if known != (now.status, now.degraded):
            level = logging.WARNING if reasons else logging.INFO
            log.log(level, "api.readiness", status=str(now.status), **checks, reasons=reasons or None)
        return now

    def _database(self, reasons: dict[str, str]) -> dict[str, str]:
        try:
            check_writable(self._platform.database)
            schema = self._platform.migrations.status()
        except Busy as error:
            # The database answers: it refused one statement. What is known of the tables still holds.
            self._refused.failed(error.message)
            known = self._last.checks["migrations"] if self._last else _UNKNOWN
            return {"database": _OK, "migrations": known}
        except Unavailable as error:
            reasons["database"] = error.message
            return {"database": _UNAVAILABLE, "migrations": _UNKNOWN}
        try:
            self._platform.database.fit.verify(schema)
        except SchemaMismatch as error:
            reasons["migrations"] = error.message
            return {"database": _OK, "migrations": _REFUSED if schema.is_newer else _MISSING}
        if schema.up_to_date:
            return {"database": _OK, "migrations": _OK}
        reasons["migrations"] = f"the tables are at {schema.current}, needed is {schema.needed}"
        # A deploy upgrades the tables first, and meanwhile the old processes must go on.
        return {"database": _OK, "migrations": _NEWER}

    def _redis(self, reasons: dict[str, str]) -> str:
        try:
            self._platform.transport.check()
        except Unavailable as error:
            reasons["redis"] = error.message
            return _UNAVAILABLE
        return _OK
