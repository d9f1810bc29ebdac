"""The reasons why a job does not run, as text: one line each, and what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from callboard.jobs.model.basics.durations import exact_duration, format_duration
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.surroundings import MOST_COUNTED, ServingWorker, WorkerHold

_LONGEST_QUOTE, _HOSTS_NAMED = 200, 3
#: Up to this time, the delay of a job that could start is normal.
_AT_ONCE: Final = timedelta(seconds=10)


class Code(StrEnum):
    """The codes of the reasons why a job does not run. The texts may change; these codes do not."""

    FINISHED = "finished"
    RUNNING = "running"
    CLAIMED = "claimed"
    CANCEL_REQUESTED = "cancel_requested"
    WORKER_HELD = "worker_held"
    NOT_DUE = "not_due"
    WAITING_FOR_PARENTS = "waiting_for_parents"
    QUEUE_PAUSED = "queue_paused"
    QUEUE_CONCURRENCY = "queue_concurrency"
    QUEUE_RATE = "queue_rate"
    KEY_CONCURRENCY = "key_concurrency"
    KEY_RATE = "key_rate"
    SOLO = "solo"
    NO_WORKER = "no_worker"
    JOB_UNKNOWN = "job_unknown"
    WORKERS_BUSY = "workers_busy"
    PUT_OFF = "put_off"
    BACKLOG = "backlog"
    NO_SCHEDULER = "no_scheduler"
    EXPIRES_SOON = "expires_soon"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: its stable code, a line for people, its values, and what to do about it."""

    code: Code
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    mend: str | None = None

    @property
    def message(self) -> str:
        return self.text if self.mend is None else f"{self.text}; {self.mend}"


def finished(job: Job, now: datetime) -> Reason:
    """Return that the job has ended, and how."""
    at = job.finished_at or now
    said = _last_error(job)
    data = {"state": str(job.state), "finished_at": at, "attempt": job.attempt, "error": said}
    again = f"run it again: callboard job retry {job.id}"
    when = f"{_span(now - at)} ago"
    match job.state:
        case JobState.SUCCEEDED:
            return Reason(Code.FINISHED, f"it succeeded {when}, {_attempt(job)}", data)
        case JobState.FAILED:
            return Reason(Code.FINISHED, f"it failed {when}, {_attempt(job)}{_after(said)}", data, again)
        case JobState.QUARANTINED:
            told = f"it is in quarantine since {when}: {job.crash_count} workers died while it ran"
            return Reason(Code.FINISHED, told + _after(said), data, f"once the cause is fixed, {again}")
        case _ if job.cancel_requested_at is None and job.progress_note == "expired":
            return Reason(Code.FINISHED, f"it expired {when}, before it had begun", data, again)
        case _:
            return Reason(Code.FINISHED, f"it was cancelled {when}", data, again)


def running(job: Job, worker: str | None, now: datetime) -> Reason:
    """Return that the job runs, and where."""
    since = job.started_at or now
    data = {"started_at": since, "worker_id": job.worker_id, "worker": worker, "attempt": job.attempt}
    told = f"it has been running for {_span(now - since)}, {_attempt(job)}"
    if job.timeout is not None and now - since > job.timeout:
        told += f", longer than its timeout of {format_duration(job.timeout)}"
    gone = "a worker whose lease is over: the scheduler takes it back"
    return Reason(Code.RUNNING, f"{told}, on {gone if worker is None else f'worker {worker}'}", data)


def held(job: Job, hold: WorkerHold, now: datetime, *, name_others: bool) -> Reason:
    """Return that a job holds what the jobs of its process share. name_others: whether it may be named."""
    thing = "event loop" if hold.kind == "loop" else "interpreter"
    waiting = "the async jobs of this worker" if hold.kind == "loop" else "all jobs of this worker"
    data: dict[str, Any] = {"kind": hold.kind, "since": hold.since}
    for_ = f"the {thing} of its worker for {_span(now - hold.since)}"
    if hold.job_id == job.id:
        mend = (
            "move the blocking call into asyncio.to_thread, or into a sync job"
            if hold.kind == "loop"
            else None
        )
        return Reason(Code.WORKER_HELD, f"it holds {for_}: {waiting} wait", data | {"job_id": job.id}, mend)
    if hold.job_id is None:
        told = f"one of the jobs of its worker holds {for_}: {waiting} wait"
    elif name_others:
        data |= {"job_id": hold.job_id, "job": hold.name}
        told = f"job {hold.job_id} ({hold.name or 'deleted'}) holds {for_}: {waiting} wait"
    else:
        told = f"another job holds {for_}: {waiting} wait"
    return Reason(Code.WORKER_HELD, told, data)


def cancel_requested(job: Job, at: datetime, now: datetime) -> Reason:
    return Reason(
        Code.CANCEL_REQUESTED,
        f"it was asked to stop {_span(now - at)} ago and has not ended yet", {"at": at},
        f"kill the process that runs it: callboard job cancel {job.id} --force",
    )  # fmt: skip


def not_due(job: Job, now: datetime) -> Reason:
    """Return that the job is not due yet."""
    when = f"in {_span(job.run_at - now)}, at {_clock(job.run_at)}"
    said = _last_error(job)
    if job.state is JobState.RETRYING:
        kind, told = (
            "retry",
            f"attempt {job.attempt} of {job.max_attempts} failed; the next is due {when}{_after(said)}",
        )
    elif job.put_off:
        kind, told = "put_off", f"it is offered to a worker again {when}"
    elif job.started_at is not None:
        kind, told = "snooze", f"it asked to be run again {when}"
    else:
        kind, told = "delay", f"it is due {when}"
    return Reason(Code.NOT_DUE, told, {"kind": kind, "run_at": job.run_at})


def waiting_for_parents() -> Reason:
    return Reason(Code.WAITING_FOR_PARENTS, "it waits until the jobs that it depends on have succeeded")


def queue_paused(job: Job, since: datetime, now: datetime) -> Reason:
    return Reason(
        Code.QUEUE_PAUSED, f"the queue {job.queue} has been paused for {_span(now - since)}",
        {"queue": job.queue, "paused_at": since}, f"resume it: callboard queue resume {job.queue}",
    )  # fmt: skip


def concurrency(job: Job, limit: int, jobs: Sequence[UUID], *, by_key: bool) -> Reason:
    """Return that a concurrency limit is used up.

    jobs:   some of the jobs that use it; empty if they must not be named.
    by_key: the limit of the job's limit key.
    """
    data = {"queue": job.queue, "limit": limit, "in_use": limit, "jobs": list(jobs)}
    more = " ..." if limit > len(jobs) else ""
    told = f"{_whose(job, by_key=by_key)} has {limit:,} of {limit:,} running or granted"
    if jobs:
        told += f": {', '.join(map(str, jobs))}{more}"
    if by_key:
        return Reason(Code.KEY_CONCURRENCY, told, data | {"limit_key": job.limit_key}, _limits(job))
    return Reason(Code.QUEUE_CONCURRENCY, told, data, _limits(job))


def rate(job: Job, limit: int, period: timedelta, until: datetime, now: datetime, *, by_key: bool) -> Reason:
    """Return that a rate limit is used up. by_key: the limit of the job's limit key."""
    data = {"queue": job.queue, "limit": limit, "period": exact_duration(period), "next_at": until}
    told = f"{_whose(job, by_key=by_key)} has started or granted {limit:,} in {exact_duration(period)}"
    told = f"{told}, as many as are allowed; the next may start in {_span(until - now)}"
    if by_key:
        return Reason(Code.KEY_RATE, told, data | {"limit_key": job.limit_key}, _limits(job))
    return Reason(Code.QUEUE_RATE, told, data, _limits(job))


def solo(servers: Sequence[ServingWorker]) -> Reason:
    hosts = list(dict.fromkeys(server.place.rpartition(":")[0] for server in servers))
    told = (
        "it waits for its run alone, because workers died while it ran: it runs next in a process of its own"
    )
    if hosts:
        more = f" and {len(hosts) - _HOSTS_NAMED} more" if len(hosts) > _HOSTS_NAMED else ""
        told += f", which a worker on {', '.join(hosts[:_HOSTS_NAMED])}{more} starts"
    return Reason(Code.SOLO, told, {"hosts": hosts})


def no_worker(job: Job) -> Reason:
    return Reason(
        Code.NO_WORKER, f"no live worker serves the queue {job.queue}", {"queue": job.queue},
        f"start one: CALLBOARD_QUEUES={job.queue} callboard run worker",
    )  # fmt: skip


def job_unknown(job: Job, servers: Sequence[ServingWorker]) -> Reason:
    number = len(servers)
    told = f"the one live worker that serves the queue {job.queue} does" if number == 1 else (
        f"the {number} live workers that serve the queue {job.queue} do"
    )  # fmt: skip
    return Reason(
        Code.JOB_UNKNOWN, f"{told} not know the job {job.name}",
        {"queue": job.queue, "name": job.name, "workers": number},
        "start one whose CALLBOARD_JOBS names the module that defines it",
    )  # fmt: skip


def workers_busy(able: Sequence[ServingWorker]) -> Reason:
    threads, held = sum(one.threads for one in able), sum(one.running for one in able)
    told = (
        "the one worker that can run it is busy"
        if len(able) == 1
        else f"all {len(able)} workers that can run it are busy"
    )
    return Reason(
        Code.WORKERS_BUSY, f"{told}: {held:,} jobs for {threads:,} threads",
        {"workers": len(able), "threads": threads, "running": held, "slots": sum(one.slots for one in able)},
    )  # fmt: skip


def put_off(job: Job) -> Reason:
    times = "once" if job.put_off == 1 else f"{job.put_off} times"
    return Reason(
        Code.PUT_OFF, f"it was put off {times} by workers that cannot run it{_after(job.put_off_reason)}",
        {"times": job.put_off, "reason": job.put_off_reason},
        "start a worker with the code that it was enqueued for, or cancel it",
    )  # fmt: skip


def backlog(job: Job, ahead: int) -> Reason:
    counted = ahead < MOST_COUNTED
    noun = "job comes" if ahead == 1 else "jobs come"
    told = f"{ahead:,} {noun}" if counted else f"at least {ahead:,} jobs come"
    return Reason(
        Code.BACKLOG, f"{told} before it in the queue {job.queue}",
        {"queue": job.queue, "ahead": ahead, "at_least": not counted},
    )  # fmt: skip


def no_scheduler(job: Job) -> Reason:
    told = "due jobs are not queued" if job.state is not JobState.QUEUED else (
        "jobs that were not pushed to Redis are not fed"
    )  # fmt: skip
    return Reason(Code.NO_SCHEDULER, f"no scheduler leads: {told}", {}, "start one: callboard run scheduler")


def expires_soon(at: datetime, now: datetime) -> Reason:
    return Reason(
        Code.EXPIRES_SOON, f"it expires in {_span(at - now)}: it is cancelled unless it has begun by then",
        {"expires_at": at},
    )  # fmt: skip


def ready(job: Job, now: datetime) -> Reason:
    """Return that no reason is known."""
    waited = now - job.run_at
    data = {"due_for": exact_duration(max(timedelta(seconds=round(waited.total_seconds())), timedelta(0)))}
    if waited < _AT_ONCE:
        return Reason(Code.READY, "nothing blocks it: it should start within a second", data)
    return Reason(
        Code.READY,
        f"no reason is known, although it has been due for {_span(waited)}",
        data, "look at the logs of the workers, and at: callboard doctor",
    )  # fmt: skip


def _whose(job: Job, *, by_key: bool) -> str:
    return f"the key {job.limit_key} in the queue {job.queue}" if by_key else f"the queue {job.queue}"


def _limits(job: Job) -> str:
    return f"see its limits: callboard queue show {job.queue}"


def _attempt(job: Job) -> str:
    return f"at attempt {job.attempt} of {job.max_attempts}"


def _last_error(job: Job) -> str | None:
    if not job.errors:
        return None
    last = job.errors[-1]
    return f"{last.get('class')}: {last.get('message')}"[:_LONGEST_QUOTE]


def _after(said: str | None) -> str:
    return f" ({said})" if said else ""


def _span(length: timedelta) -> str:
    """Return a span for people; from ten seconds on in whole seconds."""
    exact = max(length, timedelta(0))
    whole = timedelta(seconds=round(exact.total_seconds()))
    return format_duration(exact if exact < timedelta(seconds=10) else whole)


def _clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
