"""Jobs by group commit: checked, written with those that came at the same time, and shown as they were written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from callboard.api.group_commit import GroupCommit
from callboard.jobs.enqueue.batch import NewJob, Receipt, as_written
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.enqueue.isolate import together
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.job import Job, Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.operate.listing import Jobs

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Committed:
    """A job that is in the database; `existed` when it was there before and holds the unique key."""

    job: Job
    existed: bool


@dataclass(frozen=True, slots=True)
class _Asked:
    request: JobRequest
    source: Source
    allow: Callable[[NewJob], None]


class JobCommits:
    """Checks and writes jobs in groups. `bounds`: as GroupCommit's."""

    def __init__(self, enqueue: Enqueue, jobs: Jobs, **bounds: int) -> None:
        self._enqueue = enqueue
        self._jobs = jobs
        self._group: GroupCommit[_Asked, Committed] = GroupCommit("jobs", self._write_all, **bounds)

    async def commit(
        self, request: JobRequest, source: Source, *, size: int, allow: Callable[[NewJob], None]
    ) -> Committed:
        """Check and write a job; when this returns, it is committed.

        size: bytes that the request holds. allow: raises when the job, as it was checked, may not be written.
        Raises what `Enqueue.check` and `allow` do; Conflict when the unique key is taken and the request rejects
        that; Unavailable when the database is away or too much waits already. Then nothing is written.
        """
        return await self._group.commit(_Asked(request, source, allow), size=size)

    def close(self) -> None:
        """Take no more, write what waits, and end."""
        self._group.close()

    def _write_all(self, group: Sequence[_Asked]) -> list[Committed | Exception]:
        checked: list[NewJob | Exception] = []
        for one in group:
            last = checked[-1] if checked else None
            # When the database does not answer one, the others need not wait for it in turn.
            checked.append(last if isinstance(last, Unavailable) else self._check(one))
        passed = [one for one in checked if isinstance(one, NewJob)]
        written = iter(together(passed, self._write, has_key=lambda job: job.unique_key is not None))
        return [next(written) if isinstance(one, NewJob) else one for one in checked]

    def _check(self, one: _Asked) -> NewJob | Exception:
        try:
            job = self._enqueue.check(one.request, one.source)
            one.allow(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, its own request hears it
            return error
        return job

    def _write(self, group: Sequence[NewJob], patience: timedelta) -> list[Committed | Exception]:
        outcomes, hints = self._enqueue.each(group, patience=patience)
        due = {hint.id: hint.run_at for hint in hints}
        shown = [
            _shown(job, outcome, due) if isinstance(outcome, Receipt) else outcome
            for job, outcome in zip(group, outcomes, strict=True)
        ]
        rest = iter(self._read([one for one in shown if isinstance(one, Receipt)]))
        return [next(rest) if isinstance(one, Receipt) else one for one in shown]

    def _read(self, receipts: Sequence[Receipt]) -> list[Committed | Exception]:
        if not receipts:
            return []
        try:
            found = {job.id: job for job in self._jobs.get_many(list({receipt.id for receipt in receipts}))}
        except Exception as error:  # noqa: BLE001 - they are committed; no failure to read may say otherwise
            log.warning("http.read_back_failed", reason=str(error)[:200], count=len(receipts))
            found = {}
        return [
            Committed(found[receipt.id], receipt.existed)
            if receipt.id in found
            else Unavailable(f"job {receipt.id} is accepted, but cannot be shown now; do not send it again")
            for receipt in receipts
        ]


def _shown(job: NewJob, receipt: Receipt, due: dict[UUID, datetime]) -> Committed | Receipt:
    """What is known without reading it again; else the receipt."""
    known = as_written(job, receipt, due.get(receipt.id))
    return receipt if known is None else Committed(known, existed=False)
