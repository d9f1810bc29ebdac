"""Group commit: enqueues that arrive together share one transaction, and each waits for it to be committed."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Condition, Thread
from typing import Final

import structlog

from jobs.errors import Busy, Conflict, Unavailable
from jobs.records import Job, NewJob, Receipt, Source
from jobs.requests import JobRequest
from jobs.services.enqueue import Enqueue
from jobs.services.jobs import Jobs

#: Jobs written in one transaction at most.
_MOST_AT_ONCE: Final = 1_000
#: How long a group waits for somebody's open transaction that holds one of its unique keys; and each key after that.
_PATIENCE: Final = timedelta(seconds=1)
_SHORT_PATIENCE: Final = timedelta(milliseconds=100)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Committed:
    """A job that is in the database; `existed` when it was there before and holds the unique key."""

    job: Job
    existed: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: JobRequest
    source: Source
    size: int
    allow: Callable[[NewJob], None]
    future: "asyncio.Future[Committed]"


Outcome = Committed | Exception


class GroupCommit:
    """One thread checks and writes whatever waits, as often as it can; a group is what came during the last one.

    most_waiting, most_bytes: how many requests, and bytes of them, may wait; what comes on top is refused.
    """

    def __init__(
        self,
        enqueue: Enqueue,
        jobs: Jobs,
        *,
        most_waiting: int = 10_000,
        most_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._enqueue = enqueue
        self._jobs = jobs
        self._most_waiting = most_waiting
        self._most_bytes = most_bytes
        self._changed = Condition()
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._thread: Thread | None = None
        self._closing = False

    async def commit(
        self, request: JobRequest, source: Source, *, size: int, allow: Callable[[NewJob], None]
    ) -> Committed:
        """Check and write a job; when this returns, it is committed.

        size: bytes that the request holds. allow: raises when the job, as it was checked, may not be written.
        Raises what `Enqueue.check` and `allow` do; Conflict when the unique key is taken and the request rejects
        that; Unavailable when the database is away or too much waits already. Then nothing is written.
        """
        future = asyncio.get_running_loop().create_future()
        waiting = _Waiting(request, source, size, allow, future)
        with self._changed:
            if self._closing:
                raise Unavailable("this server is shutting down; try again")
            full = len(self._waiting) >= self._most_waiting or self._bytes + size > self._most_bytes
            if full and self._waiting:
                raise Unavailable("too many jobs wait to be written; try again")
            if self._thread is None:
                self._thread = Thread(target=self._run, name="callboard-group-commit", daemon=True)
                self._thread.start()
            self._waiting.append(waiting)
            self._bytes += size
            self._changed.notify()
        return await waiting.future

    def close(self) -> None:
        """Take no more, write what waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while group := self._next():
            checked = self._check_all(group)
            written = iter(self._write([one for one in checked if isinstance(one, NewJob)]))
            _tell(group, [next(written) if isinstance(one, NewJob) else one for one in checked])

    def _next(self) -> list[_Waiting]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._bytes -= sum(one.size for one in group)
        return group

    def _check_all(self, group: Sequence[_Waiting]) -> list[NewJob | Exception]:
        checked: list[NewJob | Exception] = []
        for one in group:
            last = checked[-1] if checked else None
            # When the database does not answer one, the others need not wait for it in turn.
            checked.append(last if isinstance(last, Unavailable) else self._check(one))
        return checked

    def _check(self, one: _Waiting) -> NewJob | Exception:
        try:
            job = self._enqueue.check(one.request, one.source)
            one.allow(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, its own request hears it
            return error
        return job

    def _write_apart(self, group: Sequence[NewJob]) -> list[Outcome]:
        """Somebody's open transaction holds a unique key of the group: those without a key need not wait for it."""
        plain = [job for job in group if job.unique_key is None]
        outcomes = dict(zip((job.id for job in plain), self._write(plain), strict=True))
        for job in group:
            if job.unique_key is not None:
                [outcomes[job.id]] = self._write([job], patience=_SHORT_PATIENCE)
        return [outcomes[job.id] for job in group]

    def _write(self, group: Sequence[NewJob], *, patience: timedelta = _PATIENCE) -> list[Outcome]:
        """What became of each of the group, in its order."""
        if not group:
            return []
        try:
            written = self._enqueue.each(group, patience=patience)
        except Busy as error:
            return [error] if len(group) == 1 else self._write_apart(group)
        except Unavailable as error:
            return [error for _ in group]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the guilty request's alone to hear
            if len(group) == 1:
                return [error]
            # One of them cannot be written: halve the group until it stands alone.
            middle = len(group) // 2
            return self._write(group[:middle]) + self._write(group[middle:])
        jobs = iter(self._read([one for one in written if isinstance(one, Receipt)]))
        return [one if isinstance(one, Conflict) else next(jobs) for one in written]

    def _read(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        try:
            ids = list({receipt.id for receipt in receipts})
            found = {job.id: job for job in self._jobs.get_many(ids)} if ids else {}
        except Exception as error:  # noqa: BLE001 - they are committed; no failure to read may say otherwise
            log.warning("http.read_back_failed", reason=str(error)[:200], count=len(receipts))
            found = {}
        return [
            Committed(found[receipt.id], receipt.existed)
            if receipt.id in found
            else Unavailable(f"job {receipt.id} is accepted, but cannot be shown now; do not send it again")
            for receipt in receipts
        ]


def _tell(group: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Outcome]]] = {}
    for pair in zip(group, outcomes, strict=True):
        by_loop.setdefault(pair[0].future.get_loop(), []).append(pair)
    for loop, pairs in by_loop.items():
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[_Waiting, Outcome]]) -> None:
    for one, outcome in pairs:
        if one.future.done():
            continue
        if isinstance(outcome, Committed):
            one.future.set_result(outcome)
        else:
            one.future.set_exception(outcome)
