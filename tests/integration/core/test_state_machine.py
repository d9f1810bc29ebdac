"""Every verb against every state, in the database: what states.py says happens, and nothing else does."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from callboard.jobs.attempts.repository import claiming, ending, lease_rows, rescuing
from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.enqueue.repository import inserting
from callboard.jobs.feed import repository as feed_repository
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import AttemptError, Finish
from callboard.jobs.model.new_job import batch_of
from callboard.jobs.model.states import TERMINAL, TRANSITIONS, JobState, Verb
from callboard.jobs.operate.repository import moving, pruning
from tests.integration.core.factories import Put, new_job_of, put_job, row

Ids = list[UUID]
KEY = "the-one"
ERROR = AttemptError(1, datetime(2026, 1, 1, tzinfo=UTC), "ValueError", "no", "", "host:1")


def _ids(moved: Iterable[Any]) -> Ids:
    return [one.id for one in moved]


def _kept(connection: Connection, job: Put) -> dict[str, Any]:
    kept = row(connection, job.id)
    assert kept is not None
    return kept


def _enqueue(connection: Connection, job: Put, worker: UUID) -> Ids:
    """Another job with the same unique key: it comes to be or not, and the one that stands stays as it is."""
    new = new_job_of(key=KEY)
    receipts = inserting.insert(connection, [new])
    assert len(receipts) == (_kept(connection, job)["state"] in TERMINAL)
    return [receipt.id for receipt in receipts if receipt.id != new.id]


def _replace(connection: Connection, job: Put, worker: UUID) -> Ids:
    new = new_job_of(kwargs=b'{"account_id": 8}', key=KEY)
    replaced = inserting.replace(connection, job.id, new)
    return [] if replaced is None else [replaced.id]


def _ending(verb: Verb) -> Callable[[Connection, Put, UUID], Ids]:
    delay = timedelta(hours=1) if verb in {Verb.RETRY, Verb.SNOOZE} else None
    error = ERROR if verb in {Verb.RETRY, Verb.FAIL} else None

    def act(connection: Connection, job: Put, worker: UUID) -> Ids:
        result = b"7" if verb is Verb.COMPLETE else None
        return _ids(
            ending.finish(connection, [Finish(job.id, job.epoch, job.claim_id, verb, result, error, delay)])
        )

    return act


#: Each verb as its one function applies it to a job; returns the ids that it says it moved.
ACTS: dict[Verb, Callable[[Connection, Put, UUID], Ids]] = {
    Verb.ENQUEUE: _enqueue,
    Verb.REPLACE: _replace,
    Verb.STAGE: lambda connection, job, worker: _ids(feed_repository.stage(connection, 10)),
    Verb.RELEASE: lambda connection, job, worker: _ids(moving.release(connection, [job.id]).finished),
    Verb.CLAIM: lambda connection, job, worker: _ids(
        claiming.claim(connection, worker, new_id(), [(job.id, job.epoch)])
    ),
    **{verb: _ending(verb) for verb in (Verb.COMPLETE, Verb.RETRY, Verb.SNOOZE, Verb.FAIL, Verb.STOP)},
    Verb.CANCEL: lambda connection, job, worker: _ids(moving.cancel(connection, [job.id])),
    Verb.HAND_BACK: lambda connection, job, worker: _ids(ending.hand_back(connection, [job])[0]),
    Verb.RESCUE: lambda connection, job, worker: _ids(rescuing.rescue(connection, [job.worker], None)[0]),
    Verb.RERUN: lambda connection, job, worker: _ids(moving.rerun(connection, [job.id])),
    Verb.EXPIRE: lambda connection, job, worker: _ids(feed_repository.expire(connection, 10)),
    Verb.DELETE: lambda connection, job, worker: moving.delete(connection, [job.id]),
}
FENCED = (
    Verb.CLAIM, Verb.COMPLETE, Verb.RETRY, Verb.SNOOZE, Verb.FAIL, Verb.STOP, Verb.HAND_BACK,
)  # fmt: skip
#: What a verb adds to the epoch and to the attempt of the row that it moves.
COUNTS = {
    Verb.REPLACE: (1, -1),
    Verb.STAGE: (1, 0),
    Verb.CLAIM: (1, 1),
    Verb.SNOOZE: (0, -1),
    Verb.HAND_BACK: (1, -1),
    Verb.RESCUE: (1, -1),
    Verb.RERUN: (1, -1),
}
PAIRS = [(state, verb) for state in JobState for verb in Verb]


@pytest.fixture
def connection(migrated):
    """A transaction over empty tables that is never committed."""
    with migrated.database.engine.connect() as connection:
        connection.execute(text("DELETE FROM callboard.jobs"))
        # Earlier tests may have paused or limited the queue.
        connection.execute(text("DELETE FROM callboard.queues"))
        yield connection
        connection.rollback()


@pytest.fixture
def worker(connection):
    """A worker with a live lease."""
    card = WorkerCard(new_id(), "host", 1, (), (), 8, 64)
    lease_rows.register(connection, card, timedelta(seconds=30))
    return card.id


def test_every_verb_has_its_act_and_its_transition():
    assert set(ACTS) == set(TRANSITIONS) == set(Verb)
    assert set(PAIRS) == {(state, verb) for state in JobState for verb in Verb}
    assert len(PAIRS) == len(JobState) * len(Verb)


@pytest.mark.parametrize(("state", "verb"), PAIRS)
def test_a_verb_moves_a_job_as_the_transitions_say_and_leaves_every_other_alone(
    connection, worker, state, verb
):
    sources, targets = TRANSITIONS[verb].sources, TRANSITIONS[verb].targets
    bystander = put_job(connection, state, run_at="2999-01-01T00:00:00Z", expires_at=None)
    job = put_job(connection, state, unique_key=KEY)
    before, aside = _kept(connection, job), _kept(connection, bystander)
    moved = ACTS[verb](connection, job, worker)
    after = row(connection, job.id)
    assert _kept(connection, bystander) == aside
    if (state, verb) == (JobState.RUNNING, Verb.CANCEL):
        # asked, not moved
        assert moved == [job.id]
        assert after is not None
        assert after.pop("cancel_requested_at") is not None
        before.pop("cancel_requested_at")
        assert after == before
    elif state not in sources:
        assert moved == []
        assert after == before
    elif not targets:
        assert moved == [job.id]
        assert after is None
    else:
        assert moved == [job.id]
        assert after is not None
        assert after["state"] in targets
        epoch, attempt = COUNTS.get(verb, (0, 0))
        assert after["epoch"] == before["epoch"] + epoch
        assert after["attempt"] == before["attempt"] + attempt
        assert (after["finished_at"] is not None) == (after["state"] in TERMINAL)


@pytest.mark.parametrize("verb", FENCED)
@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("step", [-1, 1])
def test_a_fenced_verb_of_another_epoch_changes_nothing(connection, worker, state, verb, step):
    job = put_job(connection, state)
    before = row(connection, job.id)
    assert ACTS[verb](connection, replace(job, epoch=job.epoch + step), worker) == []
    assert row(connection, job.id) == before


def _enqueued(connection: Connection, **more: Any) -> str:
    [written] = inserting.insert(connection, [new_job_of(delay=more.get("delay"))])
    [alike] = batch_of([new_job_of(delay=more.get("delay"))]).parts(10)
    assert inserting.insert_alike(connection, alike).state == written.state
    return written.state


def _moved(connection: Connection, verb: Verb, state: JobState, **columns: Any) -> str:
    job = put_job(connection, state, **columns)
    ACTS[verb](connection, job, job.worker)
    return str(_kept(connection, job)["state"])


ASKED = {"cancel_requested_at": "2026-01-01T00:00:02Z"}


@pytest.mark.parametrize(
    ("verb", "state", "columns", "target"),
    [
        (Verb.RETRY, JobState.RUNNING, {}, JobState.RETRYING),
        (Verb.RETRY, JobState.RUNNING, ASKED, JobState.CANCELLED),
        (Verb.SNOOZE, JobState.RUNNING, {}, JobState.SCHEDULED),
        (Verb.SNOOZE, JobState.RUNNING, ASKED, JobState.CANCELLED),
        (Verb.COMPLETE, JobState.RUNNING, ASKED, JobState.SUCCEEDED),
        (Verb.FAIL, JobState.RUNNING, ASKED, JobState.FAILED),
        (Verb.RELEASE, JobState.WAITING, {}, JobState.QUEUED),
        (
            Verb.RELEASE,
            JobState.WAITING,
            {"run_at": "2999-01-01T00:00:00Z", "expires_at": None},
            JobState.SCHEDULED,
        ),
        (Verb.RESCUE, JobState.RUNNING, {}, JobState.QUEUED),
        (Verb.RESCUE, JobState.RUNNING, {"crash_count": 1}, JobState.QUEUED),
        (Verb.RESCUE, JobState.RUNNING, {"crash_count": 2}, JobState.QUARANTINED),
        (Verb.RESCUE, JobState.RUNNING, ASKED, JobState.CANCELLED),
    ],
)
def test_a_verb_with_several_targets_reaches_each(connection, verb, state, columns, target):
    assert target in TRANSITIONS[verb].targets
    assert _moved(connection, verb, state, **columns) == target


@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING, JobState.WAITING])
def test_a_replaced_job_is_queued_or_scheduled_by_its_new_time_and_what_waits_goes_on_waiting(
    connection, state
):
    for delay, target in ((None, JobState.QUEUED), (timedelta(hours=1), JobState.SCHEDULED)):
        job = put_job(connection, state)
        new = new_job_of(delay=delay)._replace(args=b"[1]")
        replaced = inserting.replace(connection, job.id, new)
        assert replaced is not None
        assert replaced.state == (JobState.WAITING if state is JobState.WAITING else target)
        assert replaced.epoch == job.epoch + 1
        assert _kept(connection, job)["args"] == [1]


def test_an_enqueue_is_queued_or_scheduled(connection):
    assert _enqueued(connection) == JobState.QUEUED
    assert _enqueued(connection, delay=timedelta(0)) == JobState.QUEUED
    assert _enqueued(connection, delay=timedelta(hours=1)) == JobState.SCHEDULED


def test_a_released_job_keeps_a_later_time_and_has_a_hint_only_if_it_is_queued(connection):
    later = put_job(connection, JobState.WAITING, run_at="2999-01-01T00:00:00Z", expires_at=None)
    now = put_job(connection, JobState.WAITING)
    released = moving.release(connection, [later.id, now.id])
    assert {job.id: job.state for job in released.finished} == {
        later.id: JobState.SCHEDULED,
        now.id: JobState.QUEUED,
    }
    assert _ids(released.hints) == [now.id]
    assert _kept(connection, later)["run_at"].startswith("2999-01-01")
    assert not _kept(connection, now)["run_at"].startswith("2026-01-01")


def test_what_is_neither_due_nor_expired_is_neither_staged_nor_expired(connection):
    later = {"run_at": "2999-01-01T00:00:00Z", "expires_at": "2999-01-02T00:00:00Z"}
    kept = [put_job(connection, state, **later) for state in JobState]
    before = [row(connection, job.id) for job in kept]
    assert feed_repository.stage(connection, 100) == []
    assert feed_repository.expire(connection, 100) == []
    assert [row(connection, job.id) for job in kept] == before


def test_a_rescue_blames_only_the_suspects(connection):
    worker = new_id()
    suspect, other = (
        put_job(connection, JobState.RUNNING, worker_id=worker, crash_count=2) for _ in range(2)
    )
    moved, hints = rescuing.rescue(connection, [worker], [suspect.id])
    assert {job.id: job.state for job in moved} == {
        suspect.id: JobState.QUARANTINED,
        other.id: JobState.QUEUED,
    }
    assert _ids(hints) == [other.id]
    assert [_kept(connection, job)["crash_count"] for job in (suspect, other)] == [3, 2]


@pytest.mark.parametrize("state", JobState)
def test_the_pruner_removes_what_is_terminal_and_old_enough_and_nothing_else(connection, state):
    job = put_job(connection, state)
    too_young = timedelta(days=3650)
    assert pruning.prune(connection, TERMINAL, too_young, 10) == 0
    assert pruning.prune(connection, TERMINAL - {state}, timedelta(0), 10) == 0
    assert pruning.prune(connection, frozenset(JobState), timedelta(0), 10) == (state in TERMINAL)
    assert (row(connection, job.id) is None) == (state in TERMINAL)


@pytest.mark.parametrize(
    ("state", "columns", "constraint"),
    [
        *((state, {"finished_at": "2026-01-01T00:00:02Z"}, "finished_when_terminal") for state in JobState if state not in TERMINAL),
        *((state, {"finished_at": None}, "finished_when_terminal") for state in sorted(TERMINAL)),
        *((JobState.RUNNING, {column: None}, "running_has_worker") for column in ("worker_id", "claim_id", "started_at")),
        *((JobState.QUEUED, {column: -1}, "counts") for column in ("attempt", "crash_count", "epoch")),
        (JobState.QUEUED, {"max_attempts": 0}, "counts"),
        (JobState.QUEUED, {"priority": 10}, "priority_range"),
        (JobState.QUEUED, {"priority": -1}, "priority_range"),
        (JobState.QUEUED, {"progress": 1.5}, "progress_range"),
        (JobState.QUEUED, {"name": ""}, "names"),
        (JobState.QUEUED, {"queue": "q" * 101}, "names"),
        (JobState.QUEUED, {"unique_key": ""}, "unique_key_length"),
        (JobState.QUEUED, {"kwargs": "[]"}, "arguments"),
        (JobState.QUEUED, {"args": "{}"}, "arguments"),
        (JobState.QUEUED, {"source": "door"}, "source_known"),
    ],
)  # fmt: skip
def test_the_table_refuses_a_row_that_contradicts_itself(connection, state, columns, constraint):
    with pytest.raises(IntegrityError, match=f'"jobs_{constraint}"'):
        put_job(connection, state, **columns)


def test_the_table_refuses_a_state_that_is_none(connection):
    job = put_job(connection, JobState.QUEUED)
    with pytest.raises(IntegrityError, match='"jobs_state_known"'):
        connection.execute(text("UPDATE callboard.jobs SET state = 'asleep' WHERE id = :id"), {"id": job.id})


@pytest.mark.parametrize("state", JobState)
def test_a_unique_key_is_held_by_active_jobs_alone(connection, state):
    put_job(connection, state, unique_key=KEY)
    second = (
        "INSERT INTO callboard.jobs (id, name, queue, state, max_attempts, run_at, unique_key, source)"
        " VALUES (gen_random_uuid(), 'a', 'q', 'queued', 1, now(), 'the-one', 'sql') ON CONFLICT DO NOTHING"
    )
    assert connection.execute(text(second)).rowcount == (state in TERMINAL)
