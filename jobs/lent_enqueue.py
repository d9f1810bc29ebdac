"""Enqueue one job in a caller's transaction, and read it there. All doors of Python use it."""

from callboard.jobs.enqueue.lent_batches import write_lent
from callboard.jobs.model.job import Job
from callboard.jobs.model.new_job import Batch
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.callers.kinds import CallersConnection, Lent
from callboard.jobs.postgres.callers.lent import lent


def enqueue_lent(platform: Platform, batch: Batch, connection: CallersConnection) -> Job:
    """Write a batch of one job through a caller's connection; return the job as its transaction sees it."""
    return job_within(platform, lent(connection, platform.database.schema), batch)


def job_within(platform: Platform, statements: Lent, batch: Batch) -> Job:
    """Do what `enqueue_lent` does."""
    written = write_lent(platform.enqueue, statements, batch)
    with statements.explaining():
        return platform.jobs.get_within(statements, written.ids[0])
