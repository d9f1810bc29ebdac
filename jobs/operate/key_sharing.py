"""Notices that another installation uses the same keys in Redis."""

from collections.abc import Sequence
from typing import Final

import structlog

from callboard.jobs.operate.repository import diagnosing
from callboard.jobs.postgres.database import Database
from callboard.jobs.redis.transport import Transport, best_effort

SHARED_KEYS_REMEDY: Final = (
    "give one of them another CALLBOARD_SCHEMA, another number of the Redis database, or a Redis of its own"
)

log = structlog.get_logger(__name__)


class KeySharing:
    """Marks the keys as used by this installation, again and again, and logs once who else uses them.

    Installations that share keys take each other's tokens. No job is lost, but all start late.
    """

    def __init__(self, database: Database, transport: Transport) -> None:
        self._database = database
        self._transport = transport
        self._installation = ""
        self._others: Sequence[str] = ()

    def mark(self) -> Sequence[str]:
        """Mark the keys; return the databases of the other installations that use them."""
        if not self._installation:
            with self._database.autocommit() as connection:
                self._installation = diagnosing.installation(connection)
        with best_effort("mark_owner"):
            others = databases_of(self._transport.owners.mark(self._installation))
            if others and not self._others:
                log.warning("redis.keys_shared", databases=others, remedy=SHARED_KEYS_REMEDY)
            self._others = others
        return self._others


def databases_of(installations: Sequence[str]) -> Sequence[str]:
    """Return the names of the databases of installations."""
    return sorted({name.split(":", maxsplit=3)[-1] for name in installations})
