"""Slots: how much a child may hold. One is taken at the claim and free once the outcome is committed."""

from threading import Condition
from typing import Final
from uuid import UUID

from workers.attempt import Attempt

#: Free slots are filled when this part of all is free. A sync slot beyond the threads only waits, so its filling can;
#: an async one runs at once.
_SYNC_SHARE: Final = 0.75
_ASYNC_SHARE: Final = 1 / 16


class Slots:
    """The attempts that this child holds. Sync and async jobs have slots of their own.

    One dict operation is atomic in CPython; the lock is for those who wait.
    """

    def __init__(self, sync_slots: int, async_slots: int, threads: int) -> None:
        self._threads = threads
        self._capacity = {False: sync_slots, True: async_slots}
        self._held: dict[bool, dict[UUID, Attempt]] = {False: {}, True: {}}
        self._changed = Condition()

    def free(self, *, is_async: bool) -> int:
        return self._capacity[is_async] - len(self._held[is_async])

    def idle(self) -> int:
        """Threads for which nothing is held."""
        return max(self._threads - len(self._held[False]), 0)

    def worth_filling(self, *, is_async: bool) -> bool:
        """Whether a claim is worth its round trips: so much is free, or threads would be idle without it."""
        held = len(self._held[is_async])
        free = self._capacity[is_async] - held
        enough = self._capacity[is_async] * (_ASYNC_SHARE if is_async else _SYNC_SHARE)
        return free > 0 and (free >= enough or held <= self._threads)

    def take(self, attempt: Attempt) -> None:
        self._held[attempt.definition.is_async][attempt.job.id] = attempt

    def release(self, attempts: list[Attempt]) -> None:
        with self._changed:
            for attempt in attempts:
                held = self._held[attempt.definition.is_async]
                # A job that was taken back and claimed here again is another attempt.
                if held.get(attempt.job.id) is attempt:
                    del held[attempt.job.id]
            self._changed.notify_all()

    def count(self) -> int:
        return len(self._held[False]) + len(self._held[True])

    def held(self) -> list[Attempt]:
        return [*self._held[False].values(), *self._held[True].values()]

    def find(self, job_id: UUID) -> Attempt | None:
        return self._held[False].get(job_id) or self._held[True].get(job_id)

    def wait_free(self, timeout: float) -> None:
        """Wait until something is released, at most `timeout` seconds."""
        with self._changed:
            if not self.worth_filling(is_async=False) or not self.worth_filling(is_async=True):
                self._changed.wait(timeout)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing is held; whether that came within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(self._held.values()), timeout)
