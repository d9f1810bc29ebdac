"""An attempt's way through the database: claim, finish, hand back. Every write is fenced by its epoch."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.attempts.progress import Progress
from callboard.jobs.attempts.repository import claiming, ending, progress_rows, served_queues
from callboard.jobs.attempts.repository.claiming import Token
from callboard.jobs.attempts.repository.served_queues import Seen
from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.followers.dispatching import Dispatching
from callboard.jobs.metrics import STALE_WRITES, STORE_ERRORS
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.clock import SYSTEM, Clock
from callboard.jobs.model.endings import CancelRequest, Finish, Finished
from callboard.jobs.model.ids import new_id
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.redis.transport import Transport

#: How long a claim whose answer was lost is looked for. Seconds.
_LOOK_FOR_CLAIMS: Final = 30.0
#: How long a claim waits for a row that somebody else has locked, before it leaves such rows alone.
_PATIENCE: Final = timedelta(milliseconds=10)

#: So many bytes of large arguments are read for one claim, in steps of so many jobs.
_LARGE_BYTES: Final = 16 * 1024 * 1024
_LARGE_AT_ONCE: Final = 4

log = structlog.get_logger(__name__)


def _size(arguments: tuple[str, str]) -> int:
    return len(arguments[0]) + len(arguments[1])


@dataclass(frozen=True, slots=True)
class Signals:
    """What the database has to say to a running worker: which of its jobs should stop."""

    cancel_requested: list[CancelRequest]


class Execution:
    """What one worker does to jobs. Claims and finishes are called from one thread each."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        worker: UUID,
        *,
        dispatching: Dispatching | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._database = database
        self._dispatching = dispatching or Dispatching(
            database, Enqueue(database, transport, Catalogue(database))
        )
        self._clock = clock
        self._transport = transport
        self._worker = worker
        # A claim that a crash of Postgres undoes has not happened: the job is queued as before, and whoever ran it under
        # the lost claim is refused. Its commit need not wait for the disk; an outcome's must.
        self._claims = database.lane(durable=False, patience=_PATIENCE)
        self._ends = database.lane()
        #: Claims whose answer did not come, and since when: whether they were committed shows only later.
        self._unanswered: dict[UUID, float] = {}

    @property
    def worker(self) -> UUID:
        """Whose attempts these are."""
        return self._worker

    def claim(self, tokens: Sequence[Token]) -> list[ClaimedJob]:
        """Claim the jobs of these tokens; those whose token no longer holds are simply missing."""
        if not tokens:
            return []
        claim_id = new_id()
        with self._answered(claim_id):
            claimed = self._claim_free(claim_id, tokens)
            if len(claimed) < len(tokens):
                # Of limited queues, or locked by somebody; or not to be had at all.
                taken = {str(job.id) for job in claimed}
                rest = [one for one in tokens if str(one[0]) not in taken]
                claimed += self._claims.run(lambda to: claiming.claim(to, self._worker, claim_id, rest))
            return claimed

    def _claim_free(self, claim_id: UUID, tokens: Sequence[Token]) -> list[ClaimedJob]:
        try:
            return self._claims.run(lambda to: claiming.claim_free(to, self._worker, claim_id, tokens))
        except Busy:
            return []

    def with_arguments(self, claimed: list[ClaimedJob]) -> list[ClaimedJob]:
        """Read arguments that are too large to come with a claim: of as many jobs as fit into memory, at least a few.

        The others stay without (`args_json` is empty), and are to be handed back.
        """
        large = [job.id for job in claimed if not job.args_json]
        if not large:
            return claimed
        read: dict[UUID, tuple[str, str]] = {}
        try:
            while large and sum(map(_size, read.values())) < _LARGE_BYTES:
                some, large = large[:_LARGE_AT_ONCE], large[_LARGE_AT_ONCE:]
                read |= self._arguments(some)
        except Unavailable as error:
            log.debug("claim.without_arguments", reason=error.message, count=len(large))
        return [
            job._replace(args_json=read[job.id][0], kwargs_json=read[job.id][1]) if job.id in read else job
            for job in claimed
        ]

    def _arguments(self, ids: Sequence[UUID]) -> dict[UUID, tuple[str, str]]:
        return self._claims.run(lambda connection: claiming.arguments(connection, ids))

    def claim_oldest(self, queue: str, limit: int) -> list[ClaimedJob]:
        """Claim from one queue straight from Postgres, while Redis is away or knows of nothing."""
        claim_id = new_id()
        with self._answered(claim_id):
            return self._claims.run(
                lambda connection: claiming.claim_oldest(connection, self._worker, claim_id, queue, limit)
            )

    def claim_solo(self, names: Sequence[str], wanted: Sequence[str]) -> list[ClaimedJob]:
        """Claim one job that is to run alone: of these names, and of these queues (none: of any)."""
        claim_id = new_id()
        with self._answered(claim_id), self._database.autocommit() as connection:
            return claiming.claim_solo(connection, self._worker, claim_id, names, wanted)

    def adopt(self) -> list[ClaimedJob]:
        """The jobs of claims whose answer was lost, where they had been committed.

        Postgres may still be at such a claim when its connection is long gone, so each is looked for again and again
        for a while.
        """
        adopted: list[ClaimedJob] = []
        for claim_id, lost_at in list(self._unanswered.items()):
            found = self._claimed_by(claim_id)
            if found or self._clock.monotonic() - lost_at > _LOOK_FOR_CLAIMS:
                del self._unanswered[claim_id]
            adopted += found
        return adopted

    def _claimed_by(self, claim_id: UUID) -> list[ClaimedJob]:
        with self._database.autocommit() as connection:
            return claiming.claimed_by(connection, self._worker, claim_id)

    def finish(self, ends: Sequence[Finish]) -> dict[UUID, Finished]:
        """Write how attempts ended; an end that is missing from the answer was refused as stale.

        One statement for all of them, and one transaction for those that bring jobs about.
        """
        alone = [end for end in ends if not end.children]
        done: dict[UUID, Finished] = {}
        if alone:
            done = {
                end.id: end for end in self._ends.run(lambda connection: ending.finish(connection, alone))
            }
        if len(alone) < len(ends):
            born_of = [end for end in ends if end.children]
            done.update({end.id: end for end in self._dispatching.finish(born_of)})
        if len(done) < len(ends):
            missing = [end for end in ends if end.id not in done]
            with self._database.autocommit() as connection:
                done.update({end.id: end for end in ending.already_finished(connection, missing)})
            self._refused([end for end in missing if end.id not in done])
        return done

    def hand_back(self, held: Sequence[ClaimedJob]) -> int:
        """Give jobs back that were claimed and not started; returns how many."""
        if not held:
            return 0
        moved, hints = self._database.retrying(lambda connection: ending.hand_back(connection, held))
        try:
            self._transport.push(hints)
        except Unavailable:
            STORE_ERRORS.labels("redis", "push").inc()
        log.info("jobs.handed_back", count=len(moved))
        return len(moved)

    def freed(self, limited: Collection[str]) -> None:
        """Tell the feeder that jobs of these limited queues have ended: others may start in their place."""
        if not limited:
            return
        try:
            with self._database.autocommit() as connection:
                notices.queued(connection, sorted(limited))
        except Unavailable as error:
            # Its next round finds it out.
            log.debug("feeder.not_told", reason=error.message)

    def report(self, reports: Sequence[Progress]) -> Signals:
        """Write progress, fenced, and hear which jobs should stop."""
        with self._database.autocommit() as connection:
            if reports:
                progress_rows.write(connection, reports)
            return Signals(progress_rows.cancel_requested(connection, self._worker))

    def queues(self, wanted: Sequence[str]) -> list[Seen]:
        """Those of these queues that there are (none: all that there are)."""
        with self._database.autocommit() as connection:
            return served_queues.seen(connection, wanted)

    @contextmanager
    def _answered(self, claim_id: UUID) -> Iterator[None]:
        """Remember a claim that ends in an outage: it may have been committed all the same."""
        try:
            yield
        except Unavailable:
            self._unanswered[claim_id] = self._clock.monotonic()
            raise

    @staticmethod
    def _refused(stale: Sequence[Finish]) -> None:
        for end in stale:
            STALE_WRITES.labels("flusher").inc()
            log.warning("job.stale_write", job_id=str(end.id), epoch=end.epoch, verb=end.verb)
