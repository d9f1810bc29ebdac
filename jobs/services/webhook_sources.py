"""Webhook sources as intake knows them: what was read a moment ago is believed, and proven by whoever writes."""

from collections.abc import Iterable
from typing import Final

from jobs.clock import SYSTEM, Clock
from jobs.database import Database
from jobs.repositories import webhooks
from jobs.repositories.webhooks import WebhookSource

_FRESH_SECONDS: Final = 5.0
_NEVER: Final[tuple[float, WebhookSource | None]] = (float("-inf"), None)


class WebhookSources:
    """Looks sources up by name. An answer is at most 5 seconds old; a name that is not known is always asked for anew."""

    def __init__(self, database: Database, *, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._clock = clock
        #: By name, with the time at which it was asked for.
        self._known: dict[str, tuple[float, WebhookSource]] = {}

    def named(self, names: Iterable[str], *, since: float) -> dict[str, WebhookSource]:
        """The sources of these names that there are, as they were 5 seconds ago or `since`, whichever is later."""
        now = self._clock.monotonic()
        oldest = max(since, now - _FRESH_SECONDS)
        found, missing = {}, []
        for name in set(names):
            read_at, source = self._known.get(name, _NEVER)
            if source is not None and read_at >= oldest:
                found[name] = source
            else:
                missing.append(name)
        if missing:
            with self._database.autocommit() as connection:
                read = {source.name: source for source in webhooks.named(connection, missing)}
            for name in missing:
                self._known.pop(name, None)
            self._known.update({name: (now, source) for name, source in read.items()})
            found.update(read)
        return found

    def remembers(self, name: str, since: float) -> bool:
        """Whether what is known of a source is from before that time."""
        return self._known.get(name, _NEVER)[0] < since

    def knows(self, name: str) -> bool:
        """Whether there was such a source when it was last asked for."""
        return name in self._known

    def forget(self, name: str) -> None:
        """Ask anew with the next look-up."""
        self._known.pop(name, None)
