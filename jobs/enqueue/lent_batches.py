"""Write a batch in a caller's transaction: all of it or none."""

from contextlib import nullcontext

from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.enqueue.repository.inserting import ROWS
from callboard.jobs.model.new_job import Batch, MixedJobs
from callboard.jobs.model.receipt import Written
from callboard.jobs.postgres.callers.kinds import Lent
from callboard.jobs.postgres.callers.whole import whole


def write_lent(enqueue: Enqueue, statements: Lent, batch: Batch) -> Written:
    """Do what `Enqueue.within` does. After an error nothing of the batch is left in the transaction.

    Plain jobs are written by one statement, so they need no savepoint, which is two more.
    """
    keyed = isinstance(batch, MixedJobs) and batch.has_keys
    several = keyed or (len(batch.ids) > ROWS and not statements.is_open)
    with statements.explaining(), whole(statements) if several else nullcontext():
        return enqueue.within(statements, batch)
