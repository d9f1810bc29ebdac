"""A search reads texts, which takes long on a large table. So it goes in windows: a statement for each."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from uuid import UUID

from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository import reading
from callboard.jobs.postgres.database import Database

#: How many jobs a window has. A job may have megabytes of text.
_SIZE: Final = 5_000


def windows(
    database: Database, which: JobFilter, *, newest: bool = False, after: UUID | None = None
) -> Iterator[JobFilter]:
    """Yield filters that match the same jobs together, in order. Without a search it is the filter itself.

    newest: from the newest job to the oldest one.
    after:  begin after this job.
    """
    if which.search is None:
        yield which
        return
    while True:
        with database.autocommit() as connection:
            between = reading.window(connection, which, after=after, newest=newest, size=_SIZE)
        if between is None:
            return
        yield replace(which, between=between)
        after = between[0] if newest else between[1]
