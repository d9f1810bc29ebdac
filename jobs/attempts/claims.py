"""The service that claims jobs for a worker: `queued` becomes `running`; the worker owns the attempt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.attempts.large_arguments import with_arguments
from callboard.jobs.attempts.repository import claiming, serving
from callboard.jobs.attempts.repository.claiming import Token
from callboard.jobs.attempts.worker import ServedQueue
from callboard.jobs.errors import Busy, SchemaMismatch, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.schema import SchemaStatus

#: When the answer to a claim is lost, its jobs are searched for this long. Seconds.
_ADOPT_WITHIN: Final = 30.0
#: How long a claim waits for a row that another transaction has locked. After that it skips locked rows.
_ROW_LOCK_TIMEOUT: Final = timedelta(milliseconds=10)

log = structlog.get_logger(__name__)


class Claims:
    """Claims jobs for one worker. All methods but `expect` are called from one thread.

    They raise Unavailable while Postgres is away.
    """

    def __init__(self, database: Database, worker: UUID, *, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._clock = clock
        #: The worker whose attempts these are.
        self.worker = worker
        # The commit of a claim need not wait for the disk. If a crash of Postgres undoes a claim, the job is
        # queued again, and the fence refuses every write of the undone attempt.
        self._kept = database.kept("claim", durable=False, lock_timeout=_ROW_LOCK_TIMEOUT)
        #: Claims whose answer did not arrive, with the time of the outage. They may have been committed.
        self._unanswered: dict[UUID, float] = {}

    @property
    def has_unanswered(self) -> bool:
        """Return whether the answer to a claim was lost. The claim may have been committed."""
        return bool(self._unanswered)

    def claim(self, tokens: Sequence[Token]) -> list[ClaimedJob]:
        """Claim the jobs of these tokens. A job whose token is out of date is missing from the result."""
        if not tokens:
            return []
        claim_id = new_id()
        with self._unanswered_on_outage(claim_id):
            claimed = self._claim_free(claim_id, tokens)
            if len(claimed) < len(tokens):
                # The other tokens are of limited queues, locked by another transaction, or out of date.
                taken = {str(job.id) for job in claimed}
                rest = [token for token in tokens if str(token[0]) not in taken]
                claimed += self._kept.run(lambda to: claiming.claim(to, self.worker, claim_id, rest))
            return claimed

    def claim_oldest(self, queue: str, limit: int) -> list[ClaimedJob]:
        """Claim the most urgent jobs of one queue without tokens, for example when Redis does not answer."""
        claim_id = new_id()
        with self._unanswered_on_outage(claim_id):
            return self._kept.run(lambda to: claiming.claim_oldest(to, self.worker, claim_id, queue, limit))

    def claim_solo(self, names: Sequence[str], queues: Sequence[str]) -> list[ClaimedJob]:
        """Claim at most one job that must run alone, with one of these names, from these queues or any."""
        claim_id = new_id()
        with self._unanswered_on_outage(claim_id), self._database.autocommit("claim") as connection:
            return claiming.claim_solo(connection, self.worker, claim_id, names, queues)

    def with_arguments(self, claimed: list[ClaimedJob]) -> list[ClaimedJob]:
        """Read the arguments that are too large to come with a claim, see `large_arguments`."""
        return with_arguments(claimed, self._arguments)

    def expect(self, claim_id: UUID) -> None:
        """Search for the jobs of a claim that another thread made, and whose answer was lost."""
        self._unanswered[claim_id] = self._clock.monotonic()

    def adopt(self) -> list[ClaimedJob]:
        """Return the jobs of claims that were committed but whose answer was lost.

        Postgres may execute such a claim after its connection broke. So each claim is searched for
        repeatedly, for 30 seconds.
        """
        adopted: list[ClaimedJob] = []
        for claim_id, lost_at in list(self._unanswered.items()):
            found = self._claimed_by(claim_id)
            if found or self._clock.monotonic() - lost_at > _ADOPT_WITHIN:
                del self._unanswered[claim_id]
            adopted += found
        return adopted

    def served_queues(self, names: Sequence[str]) -> list[ServedQueue]:
        """Return the queues of these names that exist, sorted by name. No names: all queues.

        Raises SchemaMismatch if the tables do not fit this program: it must not claim then.
        """
        with self._database.autocommit() as connection:
            found = serving.served(connection, names)
        self._database.fit.verify(SchemaStatus(found.version))
        return found.queues

    def close(self) -> None:
        """Close the kept connection."""
        self._kept.close()

    def _claim_free(self, claim_id: UUID, tokens: Sequence[Token]) -> list[ClaimedJob]:
        try:
            return self._kept.run(lambda to: claiming.claim_free(to, self.worker, claim_id, tokens))
        except Busy:
            return []

    def _arguments(self, ids: Sequence[UUID]) -> dict[UUID, tuple[str, str]]:
        return self._kept.run(lambda connection: claiming.arguments(connection, ids))

    def _claimed_by(self, claim_id: UUID) -> list[ClaimedJob]:
        with self._database.autocommit() as connection:
            return claiming.claimed_by(connection, self.worker, claim_id)

    @contextmanager
    def _unanswered_on_outage(self, claim_id: UUID) -> Iterator[None]:
        """Remember the claim if it ends in an outage: it may have been committed."""
        try:
            yield
        except (Busy, SchemaMismatch):
            # Postgres refused the statement: nothing was committed.
            raise
        except Unavailable:
            self.expect(claim_id)
            raise
