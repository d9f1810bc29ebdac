"""Stores which job holds the interpreter of a worker child, while none of the child's own threads run."""

from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.attempts.leases import Workers
from callboard.jobs.attempts.worker import Hold, HoldKind
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS

#: The interpreter counts as held when the pulse has not changed for this time. Seconds.
_HELD_AFTER: Final = 3.0

log = structlog.get_logger(__name__)


class InterpreterHolds:
    """Knows for which children a hold is stored. The child removes it when its threads run again."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._stored: set[UUID] = set()

    def look(self, worker: UUID, still: float, started: list[UUID]) -> None:
        """Store a hold, once.

        still:   for how many seconds the pulse of the child has not changed.
        started: the jobs that run there. If there are several, it may be any of them.
        """
        if still < _HELD_AFTER or not started:
            self._stored.discard(worker)
            return
        if worker in self._stored:
            return
        job_id = started[0] if len(started) == 1 else None
        try:
            self._workers.hold(worker, Hold(HoldKind.INTERPRETER, job_id, still))
        except Unavailable as error:
            STORE_ERRORS.labels("postgres", "hold").inc()
            log.debug("supervisor.waiting", reason=error.message)
            return
        self._stored.add(worker)
        log.warning(
            "worker.still",
            worker_id=str(worker),
            one_of=[str(job) for job in started[:5]],
            seconds=round(still, 1),
        )
