"""Check whether the API is ready: the database answers, its tables are current, Redis answers."""

from threading import Lock
from typing import Final

import structlog

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.platform import Platform

#: A result is reused for this long, because anybody may send such requests. Seconds.
_FRESH_SECONDS: Final = 1.0
OK: Final = "ok"
_UNAVAILABLE: Final = "unavailable"

log = structlog.get_logger(__name__)


class Readiness:
    """Checks the stores, at most once a second."""

    def __init__(self, platform: Platform, *, clock: Clock = SYSTEM) -> None:
        self._platform = platform
        self._clock = clock
        self._lock = Lock()
        self._checked_at = float("-inf")
        self._checks: dict[str, str] = {}

    def checks(self) -> dict[str, str]:
        """Return the result of each check by name; all are "ok" if the API is ready.

        Addresses and reasons are not in the results, only in the log.
        """
        with self._lock:
            if self._clock.monotonic() - self._checked_at >= _FRESH_SECONDS:
                self._checks = {**self._database(), "redis": self._redis()}
                self._checked_at = self._clock.monotonic()
            return dict(self._checks)

    def _database(self) -> dict[str, str]:
        try:
            schema = self._platform.migrations.status()
        except Unavailable as error:
            log.warning("ready.database", reason=error.message)
            return {"database": _UNAVAILABLE, "migrations": "unknown"}
        if schema.up_to_date:
            return {"database": OK, "migrations": OK}
        log.warning("ready.migrations", current=schema.current, needed=schema.needed)
        return {"database": OK, "migrations": "another version; run 'callboard db upgrade'"}

    def _redis(self) -> str:
        try:
            self._platform.transport.check()
        except Unavailable as error:
            log.warning("ready.redis", reason=error.message)
            return _UNAVAILABLE
        return OK
