"""Writing jobs whose unique keys may be held: who comes first has the key, who comes second hears what that means."""

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from callboard.jobs.enqueue import batch
from callboard.jobs.enqueue.batch import Alike, NewJob, Receipt
from callboard.jobs.enqueue.repository import holding, inserting
from callboard.jobs.enqueue.repository.holding import Holder
from callboard.jobs.errors import Conflict
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import JobState

#: Rows in one INSERT; more go into several within the same transaction.
ROWS: Final = 2_000
#: The holder of a key may finish between two statements; then the key is free, and the job goes in.
_TRIES: Final = 5

#: Doors at which nobody stands who could hear a refusal: a schedule would stop, a sender would send again for ever.
NOBODY_THERE: Final = frozenset({"schedule", "webhook"})
Outcome = Receipt | Conflict


class Writing:
    """Jobs on their way into one transaction. `hints`: for Redis."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        #: By the id of each job, of those that are not alike.
        self._outcomes: dict[UUID, Outcome] = {}
        self.hints: list[Hint] = []

    def write(self, jobs: Sequence[NewJob]) -> list[Outcome]:
        """Write them all; a Conflict, for a key that is held, is an outcome like any other."""
        alike = batch.alike(jobs)
        if alike is not None:
            return [outcome for part in alike.parts(ROWS) for outcome in self._enqueue_alike(part)]
        self._write_each(jobs)
        return [self._outcomes[job.id] for job in jobs]

    def _write_each(self, jobs: Sequence[NewJob]) -> None:
        # Unique keys in one order for everybody: two that take the same keys wait for each other, and never in a ring.
        ordered = sorted(jobs, key=lambda job: job.unique_key or "")
        for part in _batches(ordered):
            self._enqueue(part)
        taken = [job for job in ordered if job.id not in self._outcomes]
        for _ in range(_TRIES):
            if not taken:
                return
            taken = self._settle(taken)
        for job in taken:
            self._outcomes[job.id] = Conflict(
                f"the unique key {job.unique_key!r} keeps changing hands; try again"
            )

    def _enqueue_alike(self, jobs: Alike) -> list[Receipt]:
        written = inserting.enqueue_alike(self._connection, jobs)
        name, queue, state = jobs.like.name, jobs.like.queue, written.state
        if state is JobState.QUEUED:
            priority, run_at, limited = jobs.like.priority, written.run_at, written.limited
            self.hints += [Hint(job, 0, queue, priority, run_at, limited) for job in jobs.ids]
        return [Receipt(job, name, queue, state, existed=False) for job in jobs.ids]

    def _enqueue(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        receipts, hints = inserting.enqueue(self._connection, jobs)
        born = {receipt.id for receipt in receipts}
        taking = [job for job in jobs if job.unique_for and job.id in born]
        if taking:
            held = holding.hold(self._connection, taking)
            late = {job.id for job in taking} - held
            if late:
                # Somebody held the key after this statement began to look, and is finished with the job already.
                inserting.withdraw(self._connection, list(late))
                receipts = [receipt for receipt in receipts if receipt.id not in late]
                hints = [hint for hint in hints if hint.id not in late]
        self._outcomes.update({receipt.id: receipt for receipt in receipts})
        self.hints += hints
        return receipts

    def _settle(self, taken: Sequence[NewJob]) -> list[NewJob]:
        """Find an outcome for jobs whose keys were held; returns those whose holders were gone when they were asked."""
        keys = {job.unique_key for job in taken if job.unique_key is not None}
        holders = holding.holders(self._connection, sorted(keys))
        left = []
        for job in taken:
            key = job.unique_key or ""
            holder = holders.get(key)
            outcome = self._again(job) if holder is None else self._against(holder, key, job)
            if outcome is None:
                left.append(job)
                continue
            self._outcomes[job.id] = outcome
            if isinstance(outcome, Receipt) and not outcome.existed:
                # The key may come again in this batch.
                holders[key] = Holder(outcome._replace(existed=True, moved=False), None)
        return left

    def _again(self, job: NewJob) -> Receipt | None:
        receipts = self._enqueue([job])
        return receipts[0] if receipts else None

    def _against(self, holder: Holder, key: str, job: NewJob) -> Outcome | None:
        """What the rule of conflict makes of it; None when the holder was faster."""
        there = holder.receipt
        if job.on_conflict == "reject":
            if there.id in self._outcomes:
                return Conflict(f"the unique key {key!r} comes twice in this batch")
            if there.queue != job.queue:
                # Whoever is confined to one queue hears nothing of the others.
                return Conflict(f"the unique key {key!r} is held by a job of another queue")
            until = f", until {holder.until:%Y-%m-%dT%H:%M:%SZ}" if holder.until else ""
            return Conflict(f"the unique key {key!r} is held by job {there.id} ({there.state}){until}")
        if job.on_conflict == "existing" or there.state.is_terminal:
            return there
        if (there.name, there.queue) != (job.name, job.queue):
            if job.source.door in NOBODY_THERE:
                return there
            # Whoever may write to one queue has no say over a job of another.
            return Conflict(
                f"the unique key {key!r} is held by a job of another name or queue, which is not replaced"
            )
        return (
            self._move(there, key, job) if there.state is JobState.RUNNING else self._replace(there, key, job)
        )

    def _replace(self, there: Receipt, key: str, job: NewJob) -> Receipt | None:
        replaced = inserting.replace(self._connection, there.id, job)
        if replaced is None:
            return None
        receipt, hints = replaced
        holding.extend(self._connection, key, receipt.id, until=None, span=job.unique_for)
        self.hints += hints
        return receipt

    def _move(self, there: Receipt, key: str, job: NewJob) -> Receipt | None:
        """The one that runs keeps running, without its key; what was said last is a new job, and is not lost."""
        free = holding.let_go(self._connection, key, there.id)
        receipt = None if free is None else self._again(job)
        if free is None or receipt is None:
            return None
        holding.extend(self._connection, key, receipt.id, until=free.until, span=None)
        return receipt._replace(moved=True)


def _batches(new: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    for start in range(0, len(new), ROWS):
        yield new[start : start + ROWS]
