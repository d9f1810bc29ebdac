"""The service that writes how attempts end: finish, hand on the places of limited queues, and hand back.

The epoch and the claim of the attempt fence each write.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog

from callboard.jobs.attempts.claims import Claims
from callboard.jobs.attempts.large_arguments import with_arguments
from callboard.jobs.attempts.repository import claiming, ending, handing_on
from callboard.jobs.attempts.repository.handing_on import HandedOn
from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.metrics import STALE_WRITES
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish, Finished
from callboard.jobs.model.hint import token
from callboard.jobs.model.states import Verb
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.redis.transport import Transport, best_effort

log = structlog.get_logger(__name__)


class EndHook(Protocol):
    """A function that runs at the end of attempts, for example to enqueue the jobs that follow."""

    def finish(self, ends: Sequence[Finish]) -> Sequence[Finished]:
        """Write these ends and the following jobs in one transaction; return the ends that were not stale."""
        ...


class EndsAndClaims(NamedTuple):
    """What `finish_and_claim` has written."""

    done: dict[UUID, Finished]
    claimed: list[ClaimedJob]
    #: The limited queues of which a place is free: the feeder must be told.
    free: set[str]
    #: For `correct_tokens`, which is called when the claimed jobs run.
    handed_on: dict[str, HandedOn]


class Ends:
    """Writes how the attempts of one worker end. All methods are called from one thread.

    claims: the claims of the same worker.
    hook:   gets the ends that have `children`. A batch without such ends is one statement.

    The methods raise Unavailable while Postgres does not answer. Call them again with the same values.
    """

    def __init__(self, database: Database, transport: Transport, claims: Claims, hook: EndHook) -> None:
        self._database = database
        self._claims = claims
        self._transport = transport
        self._hook = hook
        self._kept = database.kept("finish")

    def finish(self, ends: Sequence[Finish]) -> dict[UUID, Finished]:
        """Write how attempts ended. An end that is missing from the result was stale and is refused."""
        plain = [end for end in ends if not end.children]
        return self._rest(ends, plain, self._write(plain) if plain else [])

    def finish_and_claim(
        self, ends: Sequence[Finish], limited: Mapping[UUID, str], most: int
    ) -> "EndsAndClaims":
        """Do what `finish` does; in the same transaction, hand on the places of limited queues, and claim.

        limited: the queue of each job in a limited queue.

        Not more jobs are claimed than have ended, and at most `most` of each queue. Places that are handed on
        beyond that are for all workers.
        """
        plain = [end for end in ends if not end.children]
        claim_id, worker = new_id(), self._claims.worker

        def write(statements: Statements) -> tuple[list[Finished], dict[str, HandedOn]]:
            written = ending.finish(statements, plain)
            ended = sorted((limited[end.id], end.id) for end in written if end.id in limited)
            return written, {
                queue: handing_on.hand_on(statements, worker, claim_id, queue, [job for _, job in jobs], most)
                for queue, jobs in groupby(ended, key=itemgetter(0))
            }

        def write_at_once(statements: Statements) -> tuple[list[Finished], dict[str, HandedOn]]:
            written, handed = handing_on.complete_and_hand_on(
                statements, worker, claim_id, queue, plain, most
            )
            return written, {queue: handed}

        queue, *others = {limited.get(end.id, "") for end in plain} or {""}
        usual = queue and not others and all(end.verb is Verb.COMPLETE for end in plain)
        try:
            written, places = self._kept.run(write_at_once) if usual else self._kept.transaction(write)
        except Busy:
            # Postgres refused a statement: nothing was committed.
            raise
        except Unavailable:
            self._claims.expect(claim_id)
            raise
        claimed = [job for handed in places.values() for job in handed.claimed]
        freed = Counter(limited[end.id] for end in written if end.id in limited)
        hooked = {limited[end.id] for end in ends if end.children and end.id in limited}
        full = {queue for queue, handed in places.items() if handed.number == freed[queue]} - hooked
        return EndsAndClaims(
            self._rest(ends, plain, written),
            with_arguments(claimed, self._arguments),
            set(limited.values()) - full,
            places,
        )

    def correct_tokens(self, places: Mapping[str, HandedOn]) -> None:
        """Put jobs that were granted into Redis, in the place of the tokens of those that were claimed.

        places: the places that were handed on, by queue.
        """
        for queue, handed in places.items():
            if handed.waiting.number:
                with best_effort("push", count=handed.waiting.number):
                    gone = [token(job.id, job.epoch - 1) for job in handed.claimed]
                    self._transport.replace(queue, handed.waiting, gone)

    def _arguments(self, ids: Sequence[UUID]) -> dict[UUID, tuple[str, str]]:
        return self._kept.run(lambda statements: claiming.arguments(statements, ids))

    def _rest(
        self, ends: Sequence[Finish], plain: Sequence[Finish], written: Sequence[Finished]
    ) -> dict[UUID, Finished]:
        """Write the ends with children, and find out which ends an earlier call has written."""
        done = {end.id: end for end in written}
        if any(end.put_off is not None for end in plain):
            with self._database.autocommit() as connection:
                ending.hasten(connection, [end.id for end in plain if end.put_off is not None])
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
