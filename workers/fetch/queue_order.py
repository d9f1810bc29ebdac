"""The queues of a worker child: which it asks, in what order, and how much of each it may hold."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from callboard.jobs.attempts.execution import Execution
from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.jobs.model.clock import Clock
from callboard.workers.fetch.mixture import Mixture
from callboard.workers.fetch.slots import Slots

#: A worker that is never idle looks this often at what queues there are; one that is idle does it when it looks for jobs, and
#: either at once when the scheduler wakes it. Seconds.
_LOOK_EVERY: Final = 2.5
#: Every so manyeth pop begins with the queue that was served longest ago, whatever is preferred.
_FAIR_TURN: Final = 8


class Queues:
    """The queues that this worker serves, in what order, and what runs in them.

    Queues that are listed come in order of preference, but each eighth time the one comes first that was served longest
    ago: none starves, however busy those before it are. A worker of all queues serves them in turn.

    Of a limited queue no more is claimed than can begin at once: what was granted is not to wait here while another
    worker is idle, nor to begin long after it was counted.
    """

    def __init__(
        self, execution: Execution, wanted: Sequence[str], definitions: dict[str, JobDefinition], clock: Clock
    ) -> None:
        self._execution = execution
        self._wanted = tuple(wanted)
        self._clock = clock
        self._names: tuple[str, ...] = self._wanted
        self._limited: frozenset[str] = frozenset()
        #: Queues that had something to claim when they were last looked at.
        self.ready: frozenset[str] = frozenset()
        self._looked_at = float("-inf")
        self._fair_every = _FAIR_TURN if self._wanted else 1
        self._turn = 0
        #: At which turn a queue last had jobs that were taken.
        self._served_at: dict[str, int] = {}
        kinds: dict[str, set[bool]] = {}
        for definition in definitions.values():
            kinds.setdefault(definition.queue, set()).add(definition.is_async)
        self._mixtures = {name: Mixture(known) for name, known in kinds.items()}

    def any(self) -> bool:
        return bool(self._names)

    def with_room(self, slots: Slots) -> tuple[dict[str, int], bool]:
        """The queues whose jobs, of whatever kind, there are free slots for, how many for each, and whether these are all."""
        if self.age >= _LOOK_EVERY:
            self.look()
        free = {kind: slots.free(is_async=kind) for kind in (False, True)}
        rooms = {}
        for name in self._names:
            mixture = self._mixture(name)
            room = mixture.room(free)
            if name in self._limited and mixture.has_sync:
                room = min(room, slots.idle())
            if room > 0:
                rooms[name] = room
        return rooms, len(rooms) == len(self._names)

    def in_turn(self, names: Iterable[str]) -> list[str]:
        """These queues in the order in which to ask them this time."""
        self._turn += 1
        if self._turn % self._fair_every:
            return list(names)
        return sorted(names, key=lambda name: self._served_at.get(name, 0))

    def served(self, claimed: Mapping[str, Sequence[int]]) -> None:
        """Jobs of these queues were taken: so many sync and so many async ones."""
        for name, (sync, awaited) in claimed.items():
            self._served_at[name] = self._turn
            self._mixture(name).saw(sync, awaited)

    @property
    def age(self) -> float:
        """How long ago the queues were looked at. Seconds."""
        return self._clock.monotonic() - self._looked_at

    def look(self) -> None:
        """See what queues there are, which are limited, and which have something to claim."""
        found = self._execution.queues(self._wanted)
        if not self._wanted:
            self._names = tuple(queue.name for queue in found)
        self._limited = frozenset(queue.name for queue in found if queue.limited)
        self.ready = frozenset(queue.name for queue in found if queue.ready)
        self._looked_at = self._clock.monotonic()

    def _mixture(self, name: str) -> Mixture:
        # Of a queue in which no job is defined here, sync jobs are expected: they are the ones that can be too many.
        return self._mixtures.get(name) or self._mixtures.setdefault(name, Mixture({False}))
