"""The states of a job, and the verbs that change them.

Every write to the column `jobs.state` is one of these verbs: one guarded statement in a repository of
`enqueue`, `attempts`, `operate` or `feed`. A test compares TRANSITIONS with the table in
docs/reference/state_machine.md.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """The state of a job. The last four states are terminal."""

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
    """What happens to a job. Python, the CLI, HTTP, log events and metric labels use the same word."""

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
    """The states a verb starts from (`sources`) and leads to (`targets`). No target: the row is deleted."""

    sources: frozenset[JobState]
    targets: frozenset[JobState]


def _move(sources: set[JobState] | frozenset[JobState], *targets: JobState) -> Transition:
    return Transition(frozenset(sources), frozenset(targets))


_RUNNING: Final = {JobState.RUNNING}

TRANSITIONS: Final[dict[Verb, Transition]] = {
    # Any caller. Scheduled when run_at is in the future, waiting when a parent job is unfinished.
    Verb.ENQUEUE: _move(set(), JobState.QUEUED, JobState.SCHEDULED, JobState.WAITING),
    # Any caller, with on_conflict=replace. New arguments and time; attempts start again; epoch+1.
    Verb.REPLACE: _move(PENDING, JobState.QUEUED, JobState.SCHEDULED, JobState.WAITING),
    # Feeder, when run_at is reached. epoch+1.
    Verb.STAGE: _move({JobState.SCHEDULED, JobState.RETRYING}, JobState.QUEUED),
    # Worker, in the transaction that ends the last unfinished parent.
    Verb.RELEASE: _move({JobState.WAITING}, JobState.QUEUED, JobState.SCHEDULED),
    # Worker. attempt+1, epoch+1.
    Verb.CLAIM: _move({JobState.QUEUED}, JobState.RUNNING),
    # Worker, fenced by the epoch: the five ends of an attempt.
    Verb.COMPLETE: _move(_RUNNING, JobState.SUCCEEDED),
    Verb.RETRY: _move(_RUNNING, JobState.RETRYING, JobState.CANCELLED),
    Verb.SNOOZE: _move(_RUNNING, JobState.SCHEDULED, JobState.CANCELLED),
    Verb.FAIL: _move(_RUNNING, JobState.FAILED),
    Verb.STOP: _move(_RUNNING, JobState.CANCELLED),
    # Operator. A running job only gets cancel_requested_at; its worker stops it and writes the end.
    Verb.CANCEL: _move(PENDING, JobState.CANCELLED),
    # A worker that shuts down, for claimed jobs that it did not start. The attempt does not count; epoch+1.
    # Cancelled if a cancel was requested.
    Verb.HAND_BACK: _move(_RUNNING, JobState.QUEUED, JobState.CANCELLED),
    # Reaper, when the worker's lease has expired. The attempt does not count; epoch+1; crash_count+1 for the
    # job that caused the crash.
    Verb.RESCUE: _move(_RUNNING, JobState.QUEUED, JobState.QUARANTINED, JobState.CANCELLED),
    # Operator. Attempts start again; the errors are kept; epoch+1.
    Verb.RERUN: _move(TERMINAL, JobState.QUEUED),
    # Feeder, after expires_at.
    Verb.EXPIRE: _move(PENDING, JobState.CANCELLED),
    # Operator, pruner.
    Verb.DELETE: _move(TERMINAL),
}
