"""A cache of webhook sources. The statement that stores a delivery checks the source again."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.postgres.database import Database
from callboard.jobs.webhooks import repository
from callboard.jobs.webhooks.source import WebhookSource

_FRESH_SECONDS: Final = 5.0


class KnownSource(NamedTuple):
    """A source as it was at `read_at` or later. `read_at` is in seconds of the monotonic clock."""

    read_at: float
    source: WebhookSource


class WebhookSources:
    """Looks up sources by name. An answer is at most 5 seconds old; an unknown name is always read again."""

    def __init__(self, database: Database, *, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, KnownSource] = {}

    def named(self, names: Iterable[str], *, since: float) -> dict[str, KnownSource]:
        """Return the sources with these names, by name; a name without a source is missing.

        since: a monotonic time. A source that was read before it, or more than 5 seconds ago, is read again.
        """
        now = self._clock.monotonic()
        oldest = max(since, now - _FRESH_SECONDS)
        found, missing = {}, []
        for name in set(names):
            known = self._known.get(name)
            if known is not None and known.read_at >= oldest:
                found[name] = known
            else:
                missing.append(name)
        if missing:
            with self._database.autocommit() as connection:
                read = {
                    source.name: KnownSource(now, source) for source in repository.named(connection, missing)
                }
            for name in missing:
                self._known.pop(name, None)
            self._known.update(read)
            found.update(read)
        return found

    def knows(self, name: str) -> bool:
        """Return whether the source existed at the last look-up."""
        return name in self._known

    def forget(self, name: str) -> None:
        """Remove a source from the cache: the next look-up reads it again."""
        self._known.pop(name, None)
