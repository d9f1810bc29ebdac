"""The service that writes how attempts end: finish and hand back.

The epoch and the claim of the attempt fence each write.
"""

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

import structlog

from callboard.jobs.attempts.repository import ending
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STALE_WRITES
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish, Finished
from callboard.jobs.model.states import Verb
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.redis.transport import Transport, best_effort

log = structlog.get_logger(__name__)


class EndHook(Protocol):
    """A function that runs at the end of attempts, for example to enqueue the jobs that follow."""

    def finish(self, ends: Sequence[Finish]) -> Sequence[Finished]:
        """Write these ends and the following jobs in one transaction; return the ends that were not stale."""
        ...


class Ends:
    """Writes how the attempts of one worker end. All methods are called from one thread.

    hook: gets the ends that have `children`. A batch without such ends is one statement.

    The methods raise Unavailable while Postgres does not answer. Call them again with the same values.
    """

    def __init__(self, database: Database, transport: Transport, hook: EndHook) -> None:
        self._database = database
        self._transport = transport
        self._hook = hook
        self._kept = database.kept("finish")

    def finish(self, ends: Sequence[Finish]) -> dict[UUID, Finished]:
        """Write how attempts ended. An end that is missing from the result was stale and is refused."""
        plain = [end for end in ends if not end.children]
        done: dict[UUID, Finished] = {}
        if plain:
            done = {end.id: end for end in self._write(plain)}
        if len(plain) < len(ends):
            hooked = [end for end in ends if end.children]
            done.update({end.id: end for end in self._hook.finish(hooked)})
        if len(done) < len(ends):
            missing = [end for end in ends if end.id not in done]
            with self._database.autocommit() as connection:
                done.update({end.id: end for end in ending.already_finished(connection, missing)})
            _count_stale([end for end in missing if end.id not in done])
        return done

    def _write(self, ends: Sequence[Finish]) -> list[Finished]:
        # Ends that succeeded are one statement, all others are another.
        is_one = len({end.verb is Verb.COMPLETE for end in ends}) == 1
        run = self._kept.run if is_one else self._kept.transaction
        return run(lambda statements: ending.finish(statements, ends))

    def hand_back(self, held: Sequence[ClaimedJob]) -> int:
        """Put claimed jobs that have not started back into their queues; return how many."""
        if not held:
            return 0
        moved, hints = self._database.retrying(lambda connection: ending.hand_back(connection, held))
        with best_effort("push", count=len(hints)):
            self._transport.push(hints)
        log.info("jobs.handed_back", count=len(moved))
        return len(moved)

    def notify_freed(self, limited_queues: Collection[str]) -> None:
        """Notify the feeder that jobs of these limited queues have ended. Other jobs may then start."""
        if not limited_queues:
            return
        try:
            with self._database.autocommit() as connection:
                notices.queued(connection, sorted(limited_queues))
        except Unavailable as error:
            # If the notification fails, the next round of the feeder finds the free places.
            log.debug("feeder.not_told", reason=error.message)

    def close(self) -> None:
        """Close the kept connection."""
        self._kept.close()


def _count_stale(refused: Sequence[Finish]) -> None:
    for end in refused:
        STALE_WRITES.labels("flusher").inc()
        log.warning("job.stale_write", job_id=str(end.id), epoch=end.epoch, verb=end.verb)
