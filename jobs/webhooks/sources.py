"""A cache of webhook sources. The statement that stores a delivery checks the source again."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from callboard.jobs.enqueue.batcher import Batcher
from callboard.jobs.errors import NotFound
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.postgres.database import Database
from callboard.jobs.webhooks import repository
from callboard.jobs.webhooks.source import WebhookSource

_FRESH_SECONDS: Final = 5.0
#: The longest name of a source.
_LONGEST_NAME: Final = 100


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
        self._batcher: Batcher[str, KnownSource] = Batcher("look-ups of webhook sources", self._find_all)

    async def find(self, name: str) -> None:
        """Raise NotFound unless there is a source of this name.

        A cached source costs no query. Coroutines that look up other names at the same time share a query and
        a thread, and their number is bounded (Unavailable), because callers can invent any number of names.
        """
        known = self._known.get(name)
        if known is not None and known.read_at >= self._clock.monotonic() - _FRESH_SECONDS:
            return
        if len(name) > _LONGEST_NAME or not name.isascii() or not name.isprintable():
            # No source can have this name, and Postgres would refuse some of these.
            raise no_source(name)
        await self._batcher.run_async(name, size=len(name))

    def close(self) -> None:
        """Refuse look-ups by coroutines from now on."""
        self._batcher.close()

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

    def _find_all(self, names: Sequence[str]) -> tuple[list[KnownSource | BaseException], Callable[[], None]]:
        found = self.named(names, since=float("-inf"))
        return [found.get(name) or no_source(name) for name in names], lambda: None

    def knows(self, name: str) -> bool:
        """Return whether the source existed at the last look-up."""
        return name in self._known

    def forget(self, name: str) -> None:
        """Remove a source from the cache: the next look-up reads it again."""
        self._known.pop(name, None)


def no_source(name: str) -> NotFound:
    """Return the error for a name that no source has."""
    return NotFound(f"there is no webhook source {name[:100]!r}")
