"""Slots: how much a child may hold. One is taken at the claim and free once the outcome is committed."""

from collections.abc import Sequence
from threading import Condition
from typing import Final
from uuid import UUID

from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.clock import Clock
from callboard.workers.execute.attempt import Attempt

#: What waits here to begin longer than this would better have been left for another worker, and when it waits less than
#: this there may be more of it. Seconds.
_LONG: Final = 0.1
_SHORT: Final = 0.025
#: What was learned of jobs is forgotten when none has been held for so long. Seconds.
_FORGET: Final = 1.0
#: So many bytes of arguments may be held, or what is running anyway.
_BYTES: Final = 16 * 1024 * 1024


class Slots:
    """The attempts that this child holds. Sync and async jobs have slots of their own, for which the same holds.

    Small jobs are claimed by the hundred, or what runs them would wait for claims; long ones hardly ahead of time, or
    they would wait here while another worker is idle. So how many are held beyond those that run at once follows from how
    long the last ones had to wait: half as many when that was long, twice as many when it was short and all of them
    were held.

    slots: how many may be held of each kind; threads and async_slots: how many of them run at once.

    One dict operation is atomic in CPython; the lock is for those who wait.
    """

    def __init__(self, slots: int, async_slots: int, threads: int, clock: Clock) -> None:
        self._clock = clock
        self._kinds = {False: _Kind(threads, slots), True: _Kind(async_slots, max(slots, async_slots))}
        self._empty_since: float | None = None
        self._changed = Condition()

    def free(self, *, is_async: bool) -> int:
        """How many to claim now; 0 when so few are free that a claim is not worth its round trips.

        Never more than half of all, so that one half runs while the other is on its way.
        """
        if self._empty_since is not None and self._clock.monotonic() - self._empty_since > _FORGET:
            self._empty_since = None
            for kind in self._kinds.values():
                kind.forget()
        return self._kinds[is_async].free()

    def idle(self) -> int:
        """Threads for which nothing is held."""
        return max(self._kinds[False].at_once - len(self._kinds[False].held), 0)

    def take(self, attempt: Attempt) -> None:
        self._kinds[attempt.definition.is_async].held[attempt.job.id.int] = attempt

    def taken(self, claimed: Sequence[ClaimedJob]) -> None:
        """All of a claim has been taken."""
        self._empty_since = None
        size = sum(len(job.args_json) + len(job.kwargs_json) for job in claimed)
        for kind in self._kinds.values():
            kind.taken(size // len(claimed) if claimed else 0)

    def surplus(self) -> int:
        """How many sync attempts too many are held; a few are none."""
        return self._kinds[False].surplus()

    def release(self, attempts: list[Attempt]) -> None:
        longest = {False: -1.0, True: -1.0}
        with self._changed:
            for attempt in attempts:
                is_async = attempt.definition.is_async
                held = self._kinds[is_async].held
                # A job that was taken back and claimed here again is another attempt.
                place = attempt.job.id.int
                if held.get(place) is attempt:
                    del held[place]
                if attempt.began_at is not None:
                    longest[is_async] = max(longest[is_async], attempt.began_at - attempt.claimed_at)
            for is_async, kind in self._kinds.items():
                if longest[is_async] >= 0:
                    kind.adapt(longest[is_async])
            if not self.count():
                self._empty_since = self._clock.monotonic()
            self._changed.notify_all()

    def count(self) -> int:
        return sum(len(kind.held) for kind in self._kinds.values())

    def held(self) -> list[Attempt]:
        return [attempt for kind in self._kinds.values() for attempt in list(kind.held.values())]

    def find(self, job_id: UUID) -> Attempt | None:
        return self._kinds[False].held.get(job_id.int) or self._kinds[True].held.get(job_id.int)

    def wait_free(self, timeout: float) -> None:
        """Wait until something is released, at most `timeout` seconds."""
        with self._changed:
            if not all(kind.free() for kind in self._kinds.values()):
                self._changed.wait(timeout)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing is held; whether that came within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.count(), timeout)


class _Kind:
    """The slots of sync jobs, or of async ones: `at_once` of them run, `capacity` may be held."""

    def __init__(self, at_once: int, capacity: int) -> None:
        self.at_once = at_once
        self._capacity = capacity
        #: By the number that the id is: it hashes in C.
        self.held: dict[int, Attempt] = {}
        #: How many may be held beyond those that run, and whether so many were.
        self._ahead = at_once
        self._filled = False
        #: The bytes of arguments that the last claimed jobs had on average.
        self._bytes_each = 0

    def free(self) -> int:
        limit, held = self._limit(), len(self.held)
        free = limit - held
        # Half is worth a claim, and so is anything for which somebody would be idle.
        if free * 2 >= limit or (free > 0 and held <= self.at_once):
            return min(free, max(limit // 2, self.at_once))
        return 0

    def surplus(self) -> int:
        limit = self._limit()
        return max(len(self.held) - limit - max(limit // 4, self.at_once), 0)

    def taken(self, bytes_each: int) -> None:
        self._bytes_each = bytes_each
        if len(self.held) >= self._limit():
            self._filled = True

    def adapt(self, longest: float) -> None:
        """Heed how long, of what was released, that waited to begin which waited longest."""
        if longest > _LONG:
            self._ahead //= 2
        elif longest < _SHORT and self._filled:
            self._ahead = min(max(self._ahead * 2, 1), self._capacity)
        self._filled = False

    def forget(self) -> None:
        self._ahead = self.at_once

    def _limit(self) -> int:
        limit = min(self._capacity, self.at_once + self._ahead)
        if limit * self._bytes_each > _BYTES:
            return min(limit, max(_BYTES // self._bytes_each, self.at_once))
        return limit
