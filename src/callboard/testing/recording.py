"""`Enqueued`: records what the code under test enqueues, without servers."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from threading import Lock
from types import TracebackType
from typing import Any, Final, NoReturn, Self
from uuid import UUID

from callboard.jobs import async_client, client, lent_enqueue
from callboard.jobs.counters.shared_counters import Counters
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.job import Job
from callboard.jobs.model.new_job import Batch, NewJob
from callboard.jobs.model.receipt import Receipt, Written, WrittenMixed, job_as_known
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.listing import Jobs
from callboard.jobs.platform import Platform
from callboard.testing.doors import redirected
from callboard.testing.matching import Pattern, all_arguments, described
from callboard.testing.needs_servers import NeedsServers
from callboard.testing.replacing import Replacement, replaced

#: Nothing connects to these. Services are made of them, because their checks need no servers.
_NO_DATABASE: Final = "postgresql+psycopg://callboard.invalid/none"
_NO_REDIS: Final = "redis://callboard.invalid:1/0"
#: So many jobs are kept: a test that enqueues more has a loop without an end.
_MOST: Final = 100_000

#: A failure shows so many of them.
_SHOWN: Final = 50

_active: Final[list["Enqueued"]] = []


class Enqueued:
    """Records the jobs that this process enqueues, in place of writing them. A context manager.

    Every Python door takes part: `.enqueue()`, `.send()`, `with_options`, `enqueue_with`, clients, lent
    connections, groups and pipelines. Names, arguments and options are checked as ever, against the imported
    code. Nothing is simulated: what a held unique key does, and what jobs read from the database, raises
    NeedsServers.
    """

    def __init__(self) -> None:
        self._jobs: dict[UUID, Job] = {}
        self._lock = Lock()
        self._opened = ExitStack()
        self.platform = Platform(_NO_DATABASE, _NO_REDIS, app=client.configured_app())
        self.platform.database._sessions = _NoSessions()  # type: ignore[assignment]  # noqa: SLF001

    @property
    def all(self) -> list[Job]:
        """The recorded jobs, in the order of their enqueues."""
        with self._lock:
            return list(self._jobs.values())

    def clear(self) -> None:
        """Forget the recorded jobs."""
        with self._lock:
            self._jobs.clear()

    def assert_enqueued(
        self,
        job: Any,
        /,
        *,
        count: int | None = None,
        within: str | timedelta | None = None,
        after: str | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        tags: tuple[str, ...] | list[str] | None = None,
        unique_key: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> list[Job]:
        """Fail unless a job with these arguments and options was enqueued; return the jobs that match.

        job:       the job, or its name.
        count:     how many must match; at least one by default.
        within:    it is due at most this long after its enqueue. `after`: at least this long.
        arguments: like `named`, for arguments that have the name of an option.
        named:     arguments that it must have. Further arguments are ignored.

        Raises AssertionError, which lists what was enqueued, and InvalidInput for an argument that the job
        does not have.
        """
        __tracebackhide__ = True
        if count is not None and (not isinstance(count, int) or count < 0):
            raise InvalidInput(
                f"count: a whole number is expected, not {count!r:.60}", fields={"count": "0.."}
            )
        pattern = Pattern.read(
            job, all_arguments(arguments, named), within=within, after=after, queue=queue, priority=priority,
            tags=tags, unique_key=unique_key,
        )  # fmt: skip
        every = self.all
        pattern.check(every)
        found = [one for one in every if pattern.matches(one)]
        if count is None and not found:
            raise AssertionError(f"no job like {pattern} was enqueued;{_listed(every, pattern)}")
        if count is not None and len(found) != count:
            number = "1 job" if len(found) == 1 else f"{len(found)} jobs"
            closest = pattern if len(found) < count else None
            raise AssertionError(
                f"not {count} but {number} like {pattern} enqueued;{_listed(every, closest)}"
            )
        return found

    def refute_enqueued(self, job: Any = None, /, **expected: Any) -> None:
        """Fail if a job with these arguments and options was enqueued; without a job, if any was.

        Arguments as for `assert_enqueued`, without `count`.
        """
        __tracebackhide__ = True
        every = self.all
        if job is None:
            if expected:
                raise InvalidInput("refute_enqueued() without a job takes no arguments")
            if every:
                raise AssertionError(f"no job should have been enqueued;{_listed(every)}")
            return
        if "count" in expected:
            raise InvalidInput("refute_enqueued() takes no count; use assert_enqueued(..., count=...)")
        try:
            found = self.assert_enqueued(job, **expected)
        except AssertionError:
            return
        raise AssertionError(f"{described(found[0])} should not have been enqueued;{_listed(every)}")

    def __enter__(self) -> Self:
        self._opened.enter_context(redirected(self.platform, lambda _, __: ()))
        self._opened.enter_context(replaced(*self._replacements()))
        _active.append(self)
        self._opened.callback(_active.remove, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def record(self, job: NewJob) -> Receipt:
        """Record a checked job. Raises NeedsServers when a recorded job has its unique key."""
        settings = job.settings
        now = SYSTEM.now()
        run_at = settings.run_at or now + (settings.delay or timedelta(0))
        state = JobState.SCHEDULED if run_at > now else JobState.QUEUED
        receipt = Receipt(job.id, settings.name, settings.queue, state, existed=False, run_at=run_at)
        with self._lock:
            if job.unique is not None:
                self._check_key(job.unique.key)
            if len(self._jobs) >= _MOST:
                raise InvalidInput(f"the test has enqueued {_MOST:,} jobs; is there a loop without an end?")
            self._jobs[job.id] = _as_job(job, receipt)
        return receipt

    def _check_key(self, key: str) -> None:
        for one in self._jobs.values():
            if one.unique_key == key:
                raise NeedsServers(
                    f"the unique key {key!r} was enqueued before, for {described(one)}: what happens then is"
                    " decided by Postgres, and nothing simulates it here; use the drain fixture, or"
                    " enqueued.clear() between the two"
                )

    def _record_batch(self, batch: Batch) -> Written:
        jobs = batch.jobs
        return WrittenMixed(jobs, [self.record(job) for job in jobs], [])

    def _find(self, batch: Batch) -> list[Job]:
        return [self._jobs[job.id] for job in batch.jobs]

    def _replacements(self) -> Iterator[Replacement]:
        record, find = self._record_batch, self._find

        async def accept_async(_enqueue: Enqueue, batch: Batch, *, size: int) -> Written:  # noqa: ARG001
            return record(batch)

        yield Replacement(Enqueue, "accept", lambda _, batch: record(batch))
        yield Replacement(Enqueue, "accept_async", accept_async)
        yield Replacement(Enqueue, "within", lambda _, __, batch: record(batch))
        yield Replacement(Enqueue, "accept_with", _refuse)
        yield Replacement(Jobs, "as_written", staticmethod(lambda batch, _: find(batch)))
        yield Replacement(Jobs, "get_within", staticmethod(lambda _, job_id: self._jobs[job_id]))

        # A lent connection may be of any kind here, because nothing is written through it.
        async def lent_async(*_: object) -> _NoStatements:
            return _NoStatements()

        yield Replacement(lent_enqueue, "lent", lambda *_: _NoStatements())
        yield Replacement(client, "lent", lambda *_: _NoStatements())
        yield Replacement(async_client, "lent_async", lent_async)
        for module in (lent_enqueue, client, async_client):
            yield Replacement(module, "write_lent", lambda _, __, batch: record(batch))
        # A group with callbacks makes its barrier when it is sent. Nothing arrives there without a worker.
        yield Replacement(Counters, "add", lambda *_: True)


def recorder() -> Enqueued | None:
    """Return the innermost `Enqueued` whose block is open."""
    return _active[-1] if _active else None


@contextmanager
def suspended() -> Iterator[None]:
    """Let no open `Enqueued` record in this block: a drain inside of it has servers."""
    outer = tuple(_active)
    for one in reversed(outer):
        one.__exit__(None, None, None)
    try:
        yield
    finally:
        for one in outer:
            one.__enter__()


def _as_job(job: NewJob, receipt: Receipt) -> Job:
    found = job_as_known(job, receipt)
    if found is None:
        raise RuntimeError("a new job is known")
    return found


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise NeedsServers(
        "this asks for a server, and a test without servers only records what is enqueued;"
        " use the drain fixture"
    )


class _NoStatements:
    """Stands for a caller's connection."""

    explaining = staticmethod(nullcontext)


class _NoSessions:
    """Stands for the sessions of a database."""

    open = staticmethod(_refuse)


def _listed(jobs: list[Job], pattern: Pattern | None = None) -> str:
    """Return the jobs as lines. pattern: tell what keeps the closest one from matching it."""
    if not jobs:
        return " nothing was enqueued"
    shown = "".join(f"\n  {number}. {described(one)}" for number, one in enumerate(jobs[:_SHOWN], 1))
    more = f"\n  ... and {len(jobs) - _SHOWN} more" if len(jobs) > _SHOWN else ""
    closest = pattern.closest(jobs) if pattern else None
    told = ""
    if closest:
        index, differences = closest
        told = f"\nthe closest is {index + 1}. {described(jobs[index])}: {differences}"
    return f" these were enqueued:{shown}{more}{told}"
