"""Renews the leases of the children, and stores which of their jobs have begun."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.attempts.leases import Workers
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.outage import Outage
from callboard.workers.supervise.child_process import ChildProcess

_RENEW_EVERY: Final = 5.0
#: When other jobs have begun, the lists should show it. They are written with a renewal, at most this often.
#: Seconds.
_TELL_EVERY: Final = 1.0
#: The lease of a child is not renewed while its pulse is older than this. When the lease has run out too, the
#: child is killed. Seconds.
STILL: Final = 10.0

log = structlog.get_logger(__name__)


class LeaseRenewals:
    """Renews leases after a third of their time or 5 seconds, whichever is shorter.

    It renews them earlier, at most once a second, when other jobs have begun. No job costs a write of its
    own.
    """

    def __init__(self, workers: Workers, ttl: timedelta, outage: Outage, clock: Clock) -> None:
        self._workers = workers
        self._ttl = ttl.total_seconds()
        self._outage = outage
        self._clock = clock
        self._told_at = float("-inf")
        self._told: dict[UUID, list[UUID]] = {}

    def round(self, children: Collection[ChildProcess], *, stopping: bool) -> None:
        """Renew the leases of these children if it is time; stop those that have lost theirs."""
        now = self._clock.monotonic()
        if now < self._told_at + _TELL_EVERY:
            return
        begun = {child.worker_id: child.board.started() for child in children}
        if now < self._told_at + min(_RENEW_EVERY, self._ttl / 3) and begun == self._told:
            return
        self._told_at, self._told = now, begun
        for child in children:
            if child.still(now) > STILL + self._ttl:
                # Its jobs have been given to other workers, and a new child needs the room.
                log.error("worker.stuck", worker_id=str(child.worker_id), pid=child.process.pid)
                child.process.kill()
        alive = [
            child
            for child in children
            if child.board.pulse and not child.dismissed and child.still(now) < STILL
        ]
        if alive:
            self._renew(alive, stopping=stopping)

    def _renew(self, alive: list[ChildProcess], *, stopping: bool) -> None:
        ids = [child.worker_id for child in alive]
        try:
            held = self._workers.renew(ids, {worker: self._told[worker] for worker in ids})
        except Unavailable as error:
            self._outage.failed(error.message)
            return
        self._outage.over()
        for child in alive:
            # A child that was asked to stop, or that leaves to be replaced, ends its lease itself.
            if child.worker_id not in held and not stopping and not child.board.leaves_by:
                # A lone child that runs nothing may have ended its lease itself. Otherwise its jobs have been
                # given to other workers: its writes are refused.
                if not child.solo or child.board.started():
                    log.error("worker.lease_lost", worker_id=str(child.worker_id), pid=child.process.pid)
                child.dismissed = True
                child.terminate()
