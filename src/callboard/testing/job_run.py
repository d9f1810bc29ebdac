"""`run`: one job in this process, without servers, as a worker would run it."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import dramatiq

from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.dramatiq.actor import JobActor
from callboard.jobs.dramatiq.dispatching import dispatch_of
from callboard.jobs.dramatiq.job_names import job_name
from callboard.jobs.dramatiq.middleware_defaults import defaults_of
from callboard.jobs.errors import InvalidInput, NotFound
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id, parse_id
from callboard.jobs.model.basics.stored_json import parsed
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.current import current_source
from callboard.jobs.model.dispatch import Dispatch, dispatched
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.job import Job, Source
from callboard.jobs.model.new_job import NewJob
from callboard.jobs.model.request import JobRequest, job_request
from callboard.jobs.model.states import Verb
from callboard.jobs.platform import Platform
from callboard.testing.attempts_here import AttemptHere, AttemptsHere
from callboard.testing.drains import drain_here
from callboard.testing.imported_jobs import definition_of, note_broker
from callboard.testing.matching import all_arguments
from callboard.testing.recording import Enqueued, recorder
from callboard.testing.run_result import Report, RunOutcome, RunResult

#: A run to the end has at most so many attempts. A job that always snoozes has no end.
_MOST_ATTEMPTS: Final = 1_000
_OPTIONS: Final = ("arguments", "attempt", "max_attempts", "cancel_at", "job_id", "until_end")


def run(
    job: "dramatiq.Actor[..., Any]",
    /,
    *args: Any,
    arguments: Mapping[str, Any] | None = None,
    attempt: int | None = None,
    max_attempts: int | None = None,
    cancel_at: int | None = None,
    job_id: UUID | str | None = None,
    until_end: bool | None = None,
    **named: Any,
) -> RunResult:
    """Run a job in this process, without servers; return how it ended, and what it did.

    The arguments go through the check of an enqueue and through JSON, and then to the function, as in a
    worker. The retry policy decides what follows from an exception, and nothing sleeps. Sync jobs, async jobs
    and plain Dramatiq actors run alike; a sync job runs in this thread.

    arguments:    named arguments, for those that have the name of an option.
    attempt:      the number of the attempt; 1 by default.
    max_attempts: the job's number of attempts; from its definition by default.
    cancel_at:    request a stop of the job before its `progress` call of this number, which then raises
                  Cancel. 0: before the job begins.
    job_id:       what `current_job().id` is.
    until_end:    run further attempts until the job has ended. Their delays are in the result.

    Raises InvalidArguments and the other errors of an enqueue. An exception of the job is in the result.
    """
    if not isinstance(job, dramatiq.Actor):
        raise InvalidInput(f"{job!r:.100} is not a job: give the function that is decorated with @job")
    plan = _Plan(
        attempt=_number("attempt", attempt, 1, least=1),
        max_attempts=None if max_attempts is None else _number("max_attempts", max_attempts, 1, least=1),
        cancel_at=None if cancel_at is None else _number("cancel_at", cancel_at, 0, least=0),
        until_end=bool(until_end),
    )
    chosen = (arguments, attempt, max_attempts, cancel_at, job_id, until_end)
    _refuse_ambiguous(job, [name for name, value in zip(_OPTIONS, chosen, strict=True) if value is not None])
    own_id = new_id() if job_id is None else job_id if isinstance(job_id, UUID) else parse_id(job_id)
    note_broker(job.broker)
    with ExitStack() as opened:
        platform, record = drain_here(), recorder()
        if platform is None and record is None:
            record = opened.enter_context(Enqueued())
        platform = record.platform if record else platform
        if platform is None:
            raise RuntimeError("a recorder has a platform")
        before = len(record.all) if record else 0
        new = _checked(platform, job, args, all_arguments(arguments, named))._replace(id=own_id)
        here = opened.enter_context(AttemptsHere(lambda: platform))
        walk = _Walk(job, plan, platform, record, here)
        walk.go(new)
        return walk.result(tuple(record.all[before:]) if record else ())


@dataclass(frozen=True, slots=True)
class _Plan:
    """The options of a run."""

    attempt: int
    max_attempts: int | None
    cancel_at: int | None
    until_end: bool


class PlayedJob(RunningJob):
    """A running job that keeps its reports, and whose stop is requested at a chosen report."""

    def play(self, cancel_at: int | None) -> None:
        """Begin. cancel_at: the number of the `progress` call before which a stop is requested."""
        self.reports: list[Report] = []
        self._cancel_at = cancel_at
        self._calls = 0
        self.cancel_requested = cancel_at == 0

    def progress(self, fraction: float, note: str | None = None) -> None:
        self._calls += 1
        if self._calls == self._cancel_at:
            self.cancel_requested = True
        super().progress(fraction, note)

    def keep(self) -> None:
        """Add the report that was made."""
        if self.reported is not None:
            self.reports.append(Report(*self.reported))
        self.unwritten = False


@dataclass(slots=True)
class _Walk:
    """The attempts of one run."""

    job: "dramatiq.Actor[..., Any]"
    plan: _Plan
    platform: Platform
    record: Enqueued | None
    here: AttemptsHere
    attempts: int = 0
    delays: list[timedelta] = field(default_factory=list)
    last: AttemptHere | None = None
    error: BaseException | None = None
    traceback: str = ""

    def go(self, new: NewJob) -> None:
        """Run the first attempt, and with `until_end` all that follow. Their time is counted, not waited."""
        claimed = _claimed(new, self.plan)
        while True:
            finish = self._attempt(claimed)
            if self.outcome not in {RunOutcome.RETRYING, RunOutcome.SNOOZED}:
                return
            delay = finish.delay or timedelta(0)
            self.delays.append(delay)
            if not self.plan.until_end:
                return
            if self.attempts >= _MOST_ATTEMPTS:
                raise InvalidInput(f"the job {claimed.name!r} has not ended after {self.attempts} attempts")
            claimed = claimed._replace(
                attempt=claimed.attempt + (finish.verb is Verb.RETRY),
                epoch=claimed.epoch + 2, claim_id=new_id(), started_at=claimed.started_at + delay,
                run_at=claimed.started_at + delay,
            )  # fmt: skip

    @property
    def outcome(self) -> RunOutcome:
        """How the last attempt ended."""
        if self.last is None:
            raise RuntimeError("no attempt has run")
        return RunOutcome.of(self.last.end.verb, cancel_requested=self.last.running.cancel_requested)

    def result(self, enqueued: tuple[Job, ...]) -> RunResult:
        """Return what the run shows."""
        last = self.last
        if last is None or not isinstance(last.running, PlayedJob):
            raise RuntimeError("no attempt has run")
        result = last.end.result
        return RunResult(
            outcome=self.outcome, result=None if result is None else parsed(result), error=self.error,
            traceback=self.traceback, attempts=self.attempts, delays=tuple(self.delays),
            progress=tuple(last.running.reports), logs=tuple(last.lines), enqueued=enqueued,
        )  # fmt: skip

    def _attempt(self, claimed: ClaimedJob) -> Finish:
        running = PlayedJob(claimed, self._enqueue, lambda played: played.keep(), _no_body)  # type: ignore[attr-defined]
        running.play(self.plan.cancel_at)
        self.last = self.here.run(claimed, self.job, running)
        finish = self.last.end
        self.attempts += 1
        if self.last.error is not None:
            self.error = self.last.error
            self.traceback = finish.error.traceback if finish.error else ""
        for child in finish.children:
            self._follow(child, str(claimed.id))
        return finish

    def _enqueue(self, request: JobRequest, source: Source) -> UUID:
        enqueue, named = self.platform.enqueue, self.platform.catalogue.in_app(request)
        return enqueue.accept(enqueue.check(named, source)).ids[0]

    def _follow(self, child: Dispatch, parent: str) -> None:
        """Record a job that follows from the end. A group's completion needs the ends of its other jobs."""
        if self.record is not None and child.barrier is None:
            new = self.platform.enqueue.check_job(child.request, Source("job", parent))
            self.record.record(dispatched(child, new))


def _checked(
    platform: Platform, job: "dramatiq.Actor[..., Any]", args: tuple[Any, ...], kwargs: dict[str, Any]
) -> NewJob:
    """Check the arguments as an enqueue of this kind of job does."""
    if isinstance(job, JobActor):
        request = job_request({"name": job_name(job), "args": list(args), "kwargs": kwargs})
        return platform.enqueue.check_job(request, current_source())
    dispatch = dispatch_of(job.message(*args, **kwargs), job, defaults=defaults_of(job.broker.middleware))
    return dispatched(dispatch, platform.enqueue.check_job(dispatch.request, current_source()))


def _claimed(new: NewJob, plan: _Plan) -> ClaimedJob:
    settings, now = new.settings, SYSTEM.now()
    return ClaimedJob(
        id=new.id, epoch=2 * plan.attempt - 1, claim_id=new_id(), name=settings.name, queue=settings.queue,
        priority=settings.priority, args_json=new.args.decode(), kwargs_json=new.kwargs.decode(),
        attempt=plan.attempt, max_attempts=plan.max_attempts or settings.max_attempts,
        timeout=settings.timeout, run_at=now, enqueued_at=now, started_at=now,
        hard_timeout=settings.hard_timeout,
        options=None if settings.options is None else parsed(settings.options), put_off=0,
        request_id=new.request_id,
    )  # fmt: skip


def _refuse_ambiguous(job: "dramatiq.Actor[..., Any]", options: list[str]) -> None:
    """Raise InvalidInput for an option that is also the name of one of the job's arguments."""
    for name in definition_of(job).type.schema["properties"]:
        if name in options:
            raise InvalidInput(
                f"{name!r} is an option of run() and an argument of the job {job.actor_name!r}: give the"
                f" argument by position, or as arguments={{{name!r}: ...}}",
                fields={name: "an option and an argument"},
            )


def _number(name: str, value: Any, default: int, *, least: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST_ATTEMPTS:
        form = f"a whole number from {least} to {_MOST_ATTEMPTS:,}"
        raise InvalidInput(f"{name} must be {form}", fields={name: form})
    return value


def _no_body(delivery: UUID) -> bytes:
    raise NotFound(f"there is no delivery {delivery}: run() has no webhook deliveries")
