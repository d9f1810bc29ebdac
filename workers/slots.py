"""Slots: how much a child may hold. One is taken at the claim and free once the outcome is committed."""

from threading import Condition
from typing import Final
from uuid import UUID

from workers.attempt import Attempt

#: Free slots are filled when this part of all is free. A sync slot beyond the threads only waits, so its filling can;
#: an async one runs at once.
_SYNC_SHARE: Final = 0.5
_ASYNC_SHARE: Final = 1 / 8
#: What waits here for a thread longer than this would better have been left for another worker, and when it waits less than
#: this there may be more of it. Seconds.
_LONG: Final = 0.1
_SHORT: Final = 0.025


class Slots:
    """The attempts that this child holds. Sync and async jobs have slots of their own.

    Small jobs are claimed by the hundred, or the threads would wait for claims; long ones hardly ahead of time, or
    they would wait here while another worker is idle. So how many are held beyond the threads follows from how long the last
    ones had to wait: half as many when that was long, twice as many when it was short and all of them were held.

    One dict operation is atomic in CPython; the lock is for those who wait.
    """

    def __init__(self, sync_slots: int, async_slots: int, threads: int) -> None:
        self._threads = threads
        self._capacity = {False: sync_slots, True: async_slots}
        #: By the number that the id is: it hashes in C.
        self._held: dict[bool, dict[int, Attempt]] = {False: {}, True: {}}
        #: How many sync attempts may be held beyond the threads, and whether so many were.
        self._ahead = threads
        self._filled = False
        self._changed = Condition()

    def free(self, *, is_async: bool) -> int:
        """How many to claim now: never more than half of all, so that one half runs while the other is on its way."""
        limit = self._limit(is_async=is_async)
        return min(limit - len(self._held[is_async]), max(limit // 2, self._threads))

    def idle(self) -> int:
        """Threads for which nothing is held."""
        return max(self._threads - len(self._held[False]), 0)

    def worth_filling(self, *, is_async: bool) -> bool:
        """Whether a claim is worth its round trips: so much is free, or threads would be idle without it."""
        held, limit = len(self._held[is_async]), self._limit(is_async=is_async)
        enough = limit * (_ASYNC_SHARE if is_async else _SYNC_SHARE)
        return limit - held >= max(enough, 1) or (held < limit and held <= self._threads)

    def take(self, attempt: Attempt) -> None:
        self._held[attempt.definition.is_async][attempt.job.id.int] = attempt

    def taken(self) -> None:
        """All of a claim has been taken."""
        if len(self._held[False]) >= self._limit(is_async=False):
            self._filled = True

    def release(self, attempts: list[Attempt]) -> None:
        longest = -1.0
        with self._changed:
            for attempt in attempts:
                is_async = attempt.definition.is_async
                held = self._held[is_async]
                # A job that was taken back and claimed here again is another attempt.
                place = attempt.job.id.int
                if held.get(place) is attempt:
                    del held[place]
                if not is_async and attempt.began_at is not None:
                    longest = max(longest, attempt.began_at - attempt.claimed_at)
            self._adapt(longest)
            self._changed.notify_all()

    def count(self) -> int:
        return len(self._held[False]) + len(self._held[True])

    def held(self) -> list[Attempt]:
        return [*self._held[False].values(), *self._held[True].values()]

    def find(self, job_id: UUID) -> Attempt | None:
        return self._held[False].get(job_id.int) or self._held[True].get(job_id.int)

    def wait_free(self, timeout: float) -> None:
        """Wait until something is released, at most `timeout` seconds."""
        with self._changed:
            if not self.worth_filling(is_async=False) or not self.worth_filling(is_async=True):
                self._changed.wait(timeout)

    def gather(self, timeout: float) -> None:
        """While less than half of the async slots is free, wait up to `timeout` seconds for more: fewer, larger claims."""
        half = self._capacity[True] // 2
        with self._changed:
            if len(self._held[True]) > half:
                self._changed.wait_for(lambda: len(self._held[True]) <= half, timeout)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing is held; whether that came within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(self._held.values()), timeout)

    def _limit(self, *, is_async: bool) -> int:
        capacity = self._capacity[is_async]
        return capacity if is_async else min(capacity, self._threads + self._ahead)

    def _adapt(self, longest: float) -> None:
        """Heed how long, of what was released, that waited for its thread which waited longest."""
        if longest > _LONG:
            self._ahead //= 2
        elif 0 <= longest < _SHORT and self._filled:
            self._ahead = min(max(self._ahead * 2, 1), self._capacity[False])
        self._filled = False
