"""What a job can be, and the verbs that move it. The one place that says so.

Every write to `jobs.state` is one of these verbs, written as one guarded statement in
`jobs/repositories/` (job_enqueue.py, jobs.py, job_moves.py). `docs/state_machine.md` shows the same table and is checked against it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a job is in its life; the last four are terminal."""

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


class Verb(StrEnum):
    """What happens to a job; one word everywhere: Python, CLI, HTTP, log event, metric label."""

    ENQUEUE = "enqueue"
    REPLACE = "replace"
    STAGE = "stage"
    RELEASE = "release"
    CLAIM = "claim"
    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    FAIL = "fail"
    CANCEL = "cancel"
    STOP = "stop"
    HAND_BACK = "hand_back"
    RESCUE = "rescue"
    RERUN = "rerun"
    EXPIRE = "expire"
    DELETE = "delete"


TERMINAL: Final = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUARANTINED},
)
ACTIVE: Final = frozenset(JobState) - TERMINAL
PENDING: Final = ACTIVE - {JobState.RUNNING}


@dataclass(frozen=True, slots=True)
class Transition:
    """A verb's from-states and the states it may lead to; no to-state means the row is gone."""

    sources: frozenset[JobState]
    targets: frozenset[JobState]


def _move(sources: set[JobState] | frozenset[JobState], *targets: JobState) -> Transition:
    return Transition(frozenset(sources), frozenset(targets))


_RUNNING: Final = {JobState.RUNNING}

TRANSITIONS: Final[dict[Verb, Transition]] = {
    # any door; scheduled when run_at lies ahead, waiting when parents are unfinished
    Verb.ENQUEUE: _move(set(), JobState.QUEUED, JobState.SCHEDULED, JobState.WAITING),
    # any door, with on_conflict=replace; new arguments and time, a fresh budget of attempts, epoch+1
    Verb.REPLACE: _move(PENDING, JobState.QUEUED, JobState.SCHEDULED, JobState.WAITING),
    # feeder, when run_at has come; epoch+1
    Verb.STAGE: _move({JobState.SCHEDULED, JobState.RETRYING}, JobState.QUEUED),
    # the finish of the last parent
    Verb.RELEASE: _move({JobState.WAITING}, JobState.QUEUED),
    # worker; attempt+1, epoch+1
    Verb.CLAIM: _move({JobState.QUEUED}, JobState.RUNNING),
    # worker, fenced by epoch: the five ends of an attempt
    Verb.COMPLETE: _move(_RUNNING, JobState.SUCCEEDED),
    Verb.RETRY: _move(_RUNNING, JobState.RETRYING, JobState.CANCELLED),
    Verb.SNOOZE: _move(_RUNNING, JobState.SCHEDULED, JobState.CANCELLED),
    Verb.FAIL: _move(_RUNNING, JobState.FAILED),
    Verb.STOP: _move(_RUNNING, JobState.CANCELLED),
    # operator; a running job is only asked to stop (cancel_requested_at), its worker does the rest
    Verb.CANCEL: _move(PENDING, JobState.CANCELLED),
    # a draining worker, for what it had not started; the attempt is given back, epoch+1; cancelled if that was asked for
    Verb.HAND_BACK: _move(_RUNNING, JobState.QUEUED, JobState.CANCELLED),
    # reaper, when the worker's lease is dead; crash_count+1 for the cause, the attempt is given back, epoch+1
    Verb.RESCUE: _move(_RUNNING, JobState.QUEUED, JobState.QUARANTINED, JobState.CANCELLED),
    # operator; a fresh budget of attempts, epoch+1, history kept
    Verb.RERUN: _move(TERMINAL, JobState.QUEUED),
    # feeder, past expires_at
    Verb.EXPIRE: _move(PENDING, JobState.CANCELLED),
    # operator, pruner
    Verb.DELETE: _move(TERMINAL),
}
