"""Slots: how many attempts a worker child may hold.

A slot is taken by a claim and released when the outcome is committed.
"""

from collections import Counter, deque
from collections.abc import Sequence
from threading import Condition
from typing import Final
from uuid import UUID

from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.workers.execute.attempt import Attempt, JobKind

#: An attempt that waits longer than this before it starts was claimed too early. One that waits less than the
#: second value allows more claims ahead. Seconds.
_TOO_LONG: Final = 0.1
_SHORT: Final = 0.025
#: After so long without any attempt, the number of claims ahead returns to its start value. Seconds.
_RESET_AFTER: Final = 1.0
#: The arguments of all held attempts may take this many bytes.
_MAX_BYTES: Final = 16 * 1024 * 1024


class Slots:
    """The attempts that this child holds. Sync and async attempts have separate slots, under the same rules.

    Short jobs must be claimed many at a time, or the threads wait for claims. Long jobs must be claimed late,
    or they wait here while another worker is idle. So the number of attempts that are held beyond those that
    run adapts: it halves when a released attempt waited long before its start, and doubles when all waited a
    short time and every slot was used.

    slots: the maximum number held of each kind. threads, async_slots: how many of each kind run at once.

    The dicts are read and written without a lock, since one dict operation is atomic in CPython. The lock is
    for waiting.
    """

    def __init__(self, slots: int, async_slots: int, threads: int, clock: Clock) -> None:
        self._clock = clock
        self._kinds = {
            JobKind.SYNC: _KindSlots(threads, slots),
            JobKind.ASYNC: _KindSlots(async_slots, max(slots, async_slots)),
        }
        self._empty_since: float | None = None
        self._changed = Condition()
        self._releases = 0
        #: The names of the jobs that ended last.
        self.ended: deque[str] = deque(maxlen=20)

    def free(self, kind: JobKind) -> int:
        """Return how many attempts of a kind to claim now; 0 when too few are free to be worth a claim.

        The result is at most half of all slots, so that one half runs while the other half is being claimed.
        """
        if self._empty_since is not None and self._clock.monotonic() - self._empty_since > _RESET_AFTER:
            self._empty_since = None
            for slots in self._kinds.values():
                slots.reset()
        return self._kinds[kind].free()

    def idle_threads(self) -> int:
        """Return the number of threads that have no attempt."""
        sync = self._kinds[JobKind.SYNC]
        return max(sync.at_once - len(sync.held), 0)

    def ends_fast(self, kind: JobKind) -> bool:
        """Return whether the last attempts of a kind were over soon after their claim."""
        return self._kinds[kind].ends_fast

    def claimed_too_early(self, kind: JobKind) -> None:
        """Record that attempts of a kind wait behind long ones: claim fewer ahead."""
        self._kinds[kind].claimed_too_early()

    def room_without(self, attempts: Sequence[Attempt]) -> int:
        """Return for how many attempts of limited queues there is room when these are released.

        Attempts of the kinds of these are meant. Beyond those that can start at once, there is room only for
        short ones.
        """
        kinds = Counter(attempt.kind for attempt in attempts)
        return sum(self._kinds[kind].room_without(number) for kind, number in kinds.items())

    def take(self, attempt: Attempt) -> None:
        """Take a slot for an attempt."""
        self._kinds[attempt.kind].held[attempt.job.id.int] = attempt

    def claim_taken(self, claimed: Sequence[ClaimedJob]) -> None:
        """Record that every attempt of a claim has its slot."""
        self._empty_since = None
        size = sum(len(job.args_json) + len(job.kwargs_json) for job in claimed)
        for slots in self._kinds.values():
            slots.claim_taken(size // len(claimed) if claimed else 0)

    def surplus(self) -> int:
        """Return how many sync attempts are held beyond the limit. A small excess counts as 0."""
        return self._kinds[JobKind.SYNC].surplus()

    def release(self, attempts: list[Attempt]) -> None:
        """Release the slots of attempts whose outcomes are committed, and take them off the board."""
        longest = dict.fromkeys(JobKind, -1.0)
        earliest = dict.fromkeys(JobKind, self._clock.monotonic())
        with self._changed:
            for attempt in attempts:
                attempt.written()
                held = self._kinds[attempt.kind].held
                # The same job may be held again as another attempt: it was handed back and claimed here once
                # more.
                key = attempt.job.id.int
                if held.get(key) is attempt:
                    del held[key]
                if attempt.began_at is not None:
                    longest[attempt.kind] = max(longest[attempt.kind], attempt.began_at - attempt.claimed_at)
                    earliest[attempt.kind] = min(earliest[attempt.kind], attempt.claimed_at)
            for kind, slots in self._kinds.items():
                if longest[kind] >= 0:
                    slots.adapt(longest[kind], self._clock.monotonic() - earliest[kind])
            self._releases += 1
            if not self.count():
                self._empty_since = self._clock.monotonic()
            self._changed.notify_all()

    def count(self) -> int:
        """Return how many attempts are held."""
        return sum(len(slots.held) for slots in self._kinds.values())

    def held(self) -> list[Attempt]:
        """Return the attempts that are held."""
        return [attempt for slots in self._kinds.values() for attempt in list(slots.held.values())]

    def find(self, job_id: UUID) -> Attempt | None:
        """Return the attempt of a job, if it is held."""
        for slots in self._kinds.values():
            if (attempt := slots.held.get(job_id.int)) is not None:
                return attempt
        return None

    @property
    def releases(self) -> int:
        """How often slots were released. Read it before `free` and `idle_threads`, for `wait_release`."""
        return self._releases

    def wait_release(self, since: int, timeout: float) -> None:
        """Wait until slots are released after the release number `since`, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._releases != since, timeout)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until no attempt is held, at most `timeout` seconds; return whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.count(), timeout)


class _KindSlots:
    """The slots of one kind: `at_once` attempts run at the same time, `capacity` may be held."""

    def __init__(self, at_once: int, capacity: int) -> None:
        self.at_once = at_once
        self._capacity = capacity
        #: By the job id as an integer, whose hash is computed in C.
        self.held: dict[int, Attempt] = {}
        #: How many attempts may be held beyond those that run, and whether that many were held.
        self._ahead = at_once
        self._filled = False
        #: Whether the last attempts were over soon after their claim.
        self.ends_fast = False
        #: The average size of the arguments in the last claim. Bytes.
        self._bytes_each = 0

    def free(self) -> int:
        limit, held = self._limit(), len(self.held)
        free = limit - held
        # A claim is worth its round trip when half is free, or when a thread would be idle without it.
        if free * 2 >= limit or (free > 0 and held <= self.at_once):
            return min(free, max(limit // 2, self.at_once))
        return 0

    def room_without(self, released: int) -> int:
        limit = self._limit() if self.ends_fast else min(self._limit(), self.at_once)
        return max(limit - len(self.held) + released, 0)

    def surplus(self) -> int:
        limit = self._limit()
        return max(len(self.held) - limit - max(limit // 4, self.at_once), 0)

    def claim_taken(self, bytes_each: int) -> None:
        self._bytes_each = bytes_each
        if len(self.held) >= self._limit():
            self._filled = True

    def adapt(self, longest: float, whole: float) -> None:
        """Change how many jobs are claimed before a slot for them is free.

        longest: the longest time, in seconds, that a job of the last batch waited between its claim and its
        start. A long one halves the number, a short one doubles it.
        whole:   the longest time between a claim and the end of its job.
        """
        self.ends_fast = whole <= _TOO_LONG
        if longest > _TOO_LONG:
            self._ahead //= 2
        elif longest < _SHORT and self._filled:
            self._ahead = min(max(self._ahead * 2, 1), self._capacity)
        self._filled = False

    def claimed_too_early(self) -> None:
        self.ends_fast = False
        self._ahead //= 2

    def reset(self) -> None:
        self._ahead = self.at_once
        self.ends_fast = False

    def _limit(self) -> int:
        limit = min(self._capacity, self.at_once + self._ahead)
        if limit * self._bytes_each > _MAX_BYTES:
            return min(limit, max(_MAX_BYTES // self._bytes_each, self.at_once))
        return limit
