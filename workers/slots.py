"""Slots: how much a child may hold. One is taken at the claim and free once the outcome is committed."""

from threading import Condition
from uuid import UUID

from workers.attempt import Attempt


class Slots:
    """The attempts that this child holds. Sync and async jobs have slots of their own."""

    def __init__(self, sync_slots: int, async_slots: int) -> None:
        self._capacity = {False: sync_slots, True: async_slots}
        self._held: dict[bool, dict[UUID, Attempt]] = {False: {}, True: {}}
        self._changed = Condition()

    def free(self, *, is_async: bool) -> int:
        return self._capacity[is_async] - len(self._held[is_async])

    def take(self, attempt: Attempt) -> None:
        with self._changed:
            self._held[attempt.definition.is_async][attempt.job.id] = attempt

    def release(self, attempts: list[Attempt]) -> None:
        with self._changed:
            for attempt in attempts:
                self._held[attempt.definition.is_async].pop(attempt.job.id, None)
            self._changed.notify_all()

    def held(self) -> list[Attempt]:
        with self._changed:
            return [attempt for side in self._held.values() for attempt in side.values()]

    def find(self, job_id: UUID) -> Attempt | None:
        with self._changed:
            return self._held[False].get(job_id) or self._held[True].get(job_id)

    def wait_free(self, timeout: float) -> None:
        """Wait until something is released, at most `timeout` seconds."""
        with self._changed:
            if self.free(is_async=False) <= 0 or self.free(is_async=True) <= 0:
                self._changed.wait(timeout)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing is held; whether that came within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(self._held.values()), timeout)
