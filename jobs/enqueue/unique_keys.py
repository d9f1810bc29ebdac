"""Write jobs with unique keys. The first job gets the key; a rule decides what happens to the second one."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from callboard.jobs.enqueue.repository import holding, inserting
from callboard.jobs.enqueue.repository.holding import Holder
from callboard.jobs.enqueue.repository.inserting import ROWS, InsertedRow
from callboard.jobs.errors import Conflict
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.new_job import UNATTENDED_DOORS, NewJob, UniqueClaim
from callboard.jobs.model.receipt import Receipt, WrittenMixed
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres.protocols import Statements

#: The holder of a key may end between two statements. Then the key is free, and the job is written again.
_TRIES: Final = 5


def write_mixed(statements: Statements, jobs: Sequence[NewJob]) -> WrittenMixed:
    """Write jobs in the transaction of `statements`.

    If a key is held and the rule is `reject`, the outcome of the job is a Conflict.
    """
    writing = _Writing(statements)
    writing.write(jobs)
    return WrittenMixed(jobs, [writing.outcomes[job.id] for job in jobs], writing.hints)


class _Writing:
    """The jobs that one transaction writes, and their outcomes."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        #: By the id of each job.
        self.outcomes: dict[UUID, Receipt | Conflict] = {}
        self.hints: list[Hint] = []

    def write(self, jobs: Sequence[NewJob]) -> None:
        # Every transaction takes unique keys in the same order, so two that take the same keys cannot
        # deadlock.
        ordered = sorted(jobs, key=lambda job: job.unique.key if job.unique else "")
        for start in range(0, len(ordered), ROWS):
            self._insert(ordered[start : start + ROWS])
        taken = [(job, job.unique) for job in ordered if job.unique and job.id not in self.outcomes]
        for _ in range(_TRIES):
            if not taken:
                return
            taken = self._settle(taken)
        for job, claim in taken:
            self.outcomes[job.id] = Conflict(
                f"the unique key {claim.key!r} changes its holder too often; try again"
            )

    def _insert(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        rows = inserting.insert(self._statements, jobs)
        written = {row.id for row in rows}
        claims = {
            job.id: job.unique for job in jobs if job.unique and job.unique.period and job.id in written
        }
        if claims:
            late = claims.keys() - holding.hold(self._statements, claims)
            if late:
                # Another job took the key after this statement had looked, and has ended already.
                inserting.withdraw(self._statements, list(late))
                rows = [row for row in rows if row.id not in late]
        receipts = [_receipt(row) for row in rows]
        self.outcomes.update({receipt.id: receipt for receipt in receipts})
        self._add_hints(rows)
        return receipts

    def _add_hints(self, rows: Sequence[InsertedRow]) -> None:
        self.hints += [row.hint for row in rows if row.state == JobState.QUEUED]

    def _settle(self, taken: Sequence[tuple[NewJob, UniqueClaim]]) -> list[tuple[NewJob, UniqueClaim]]:
        """Find an outcome for jobs whose keys are held; return the jobs whose holders have just ended."""
        holders = holding.holders(self._statements, sorted({claim.key for _, claim in taken}))
        left = []
        for job, claim in taken:
            holder = holders.get(claim.key)
            outcome = self._insert_again(job) if holder is None else self._against(holder, claim, job)
            if outcome is None:
                left.append((job, claim))
                continue
            self.outcomes[job.id] = outcome
            if isinstance(outcome, Receipt) and not outcome.existed:
                # A later job of this batch may have the same key.
                holders[claim.key] = Holder(outcome._replace(existed=True, moved=False), None)
        return left

    def _insert_again(self, job: NewJob) -> Receipt | None:
        receipts = self._insert([job])
        return receipts[0] if receipts else None

    def _against(self, holder: Holder, claim: UniqueClaim, job: NewJob) -> Receipt | Conflict | None:
        """Apply the job's on_conflict rule; return None when the holder has changed meanwhile."""
        there, key = holder.receipt, claim.key
        alike = (there.name, there.queue) == (job.settings.name, job.settings.queue)
        if claim.on_conflict == "reject":
            if there.id in self.outcomes:
                return Conflict(f"the unique key {key!r} comes twice in this batch")
            if not alike:
                # A caller that is restricted to a queue or a job must not get information about others.
                return Conflict(f"the unique key {key!r} is held by a job of another name or queue")
            until = f", until {holder.until:%Y-%m-%dT%H:%M:%SZ}" if holder.until else ""
            return Conflict(f"the unique key {key!r} is held by job {there.id} ({there.state}){until}")
        if claim.on_conflict == "existing" or there.state.is_terminal:
            return there
        if not alike:
            if job.settings.door in UNATTENDED_DOORS:
                return there
            # A caller that may write to one queue must not change a job of another.
            return Conflict(
                f"the unique key {key!r} is held by a job of another name or queue, which is not replaced"
            )
        if there.state is JobState.RUNNING:
            return self._move(there, key, job)
        return self._replace(there, claim, job)

    def _replace(self, there: Receipt, claim: UniqueClaim, job: NewJob) -> Receipt | None:
        row = inserting.replace(self._statements, there.id, job)
        if row is None:
            return None
        holding.extend(self._statements, claim.key, row.id, until=None, span=claim.period)
        self._add_hints([row])
        return _receipt(row)._replace(existed=True, replaced=True, run_at=None)

    def _move(self, there: Receipt, key: str, job: NewJob) -> Receipt | None:
        """Give a running job's key to the new job, so that the newest arguments are not lost."""
        free = holding.let_go(self._statements, key, there.id)
        receipt = None if free is None else self._insert_again(job)
        if free is None or receipt is None:
            return None
        holding.extend(self._statements, key, receipt.id, until=free.until, span=None)
        return receipt._replace(moved=True)


def _receipt(row: InsertedRow) -> Receipt:
    return Receipt(row.id, row.name, row.queue, JobState(row.state), existed=False, run_at=row.run_at)
