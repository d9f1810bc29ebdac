"""What an operator does to jobs: cancel, rerun, delete; by id and by filter."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.errors import Conflict, InvalidInput, NotFound
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import PENDING, TERMINAL, JobState, Verb
from callboard.jobs.operate.control import Bulk
from callboard.jobs.operate.job_filter import JobFilter
from tests.integration.core.factories import (
    claimed,
    count,
    enqueue,
    execution,
    put_job,
    states,
    until,
    without_redis,
)


def put(platform, state, **columns):
    with platform.database.transaction() as connection:
        return put_job(connection, state, **columns).id


def one_of_each(platform, **columns):
    return {state: put(platform, state, **columns) for state in JobState}


@pytest.mark.parametrize("state", sorted(PENDING))
def test_what_has_not_begun_is_cancelled_and_stays_so(platform, state):
    job = put(platform, state)
    for _ in range(2):
        cancelled = platform.control.cancel(job)
        assert cancelled.state == "cancelled"
        assert cancelled.finished_at is not None


def test_a_running_job_is_asked_and_keeps_the_time_of_the_first_asking(platform):
    job = put(platform, JobState.RUNNING)
    first = platform.control.cancel(job)
    assert (first.state, first.finished_at) == ("running", None)
    assert first.cancel_requested_at is not None
    assert platform.control.cancel(job) == first


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize(("before", "after"), [("queued", "running"), ("running", "queued")])
def test_a_cancel_that_waited_for_the_row_goes_by_the_new_state(platform, before, after, force):
    """A worker claims the job, or hands it back, while the cancel waits for it to commit."""
    never_claimed = dict.fromkeys(("worker_id", "claim_id", "started_at"))
    claimed_now = {"worker_id": new_id(), "claim_id": new_id(), "started_at": "2026-01-01T00:00:01Z"}
    columns = {"queued": never_claimed, "running": claimed_now}
    job = put(platform, JobState(before), **columns[before])
    with ThreadPoolExecutor(1) as pool:
        with platform.database.transaction() as worker:
            worker.execute(
                text(
                    "UPDATE callboard.jobs SET state = :state, epoch = epoch + 1, worker_id = :worker_id,"
                    " claim_id = :claim_id, started_at = :started_at WHERE id = :id"
                ),
                {"state": after, "id": job, **columns[after]},
            )
            cancelling = pool.submit(platform.control.cancel, job, force=force)
            until(lambda: waiting_for_rows(platform))
        cancelled = cancelling.result(20)
    assert cancelled.state == ("running" if after == "running" else "cancelled")
    assert cancelled.cancel_requested_at is not None


def waiting_for_rows(platform):
    statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%jobs%'"
    with platform.database.autocommit() as connection:
        return connection.execute(text(statement)).scalar_one()


@pytest.mark.parametrize("state", sorted(TERMINAL - {JobState.CANCELLED}))
def test_what_ended_otherwise_cannot_be_cancelled(platform, state):
    job = put(platform, state)
    before = platform.jobs.get(job)
    with pytest.raises(Conflict, match=f"it is {state}"):
        platform.control.cancel(job)
    assert platform.jobs.get(job) == before


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_what_ended_runs_again_with_a_fresh_budget_and_its_history(platform, state):
    errors = '[{"attempt": 1, "message": "no"}]'
    job = put(
        platform, state, errors=errors, result="7", progress=0.5, cancel_requested_at="2026-01-01T00:00:00Z"
    )
    again = platform.control.rerun(job)
    assert (again.state, again.attempt, again.crash_count) == ("queued", 0, 0)
    assert (again.finished_at, again.started_at, again.expires_at, again.cancel_requested_at) == (None,) * 4
    assert (again.result, again.progress, [error["message"] for error in again.errors]) == (
        None,
        None,
        ["no"],
    )
    with execution(platform) as worker:
        tokens = [token.decode().split(":") for token in platform.transport.pop(["reports"], 9, 0.1)]
        taken = worker.claim([(token, int(epoch)) for token, epoch in tokens])
        if state is JobState.QUARANTINED:
            assert taken == []
            taken = worker.claim_solo(["build_report"], [])
        assert [one.id for one in taken] == [job]


@pytest.mark.parametrize("state", sorted(set(JobState) - TERMINAL))
def test_what_has_not_ended_is_neither_rerun_nor_deleted(platform, state):
    job = put(platform, state)
    before = platform.jobs.get(job)
    with pytest.raises(Conflict, match=f"cannot be retried: it is {state}"):
        platform.control.rerun(job)
    with pytest.raises(Conflict, match=f"cannot be deleted: it is {state}"):
        platform.control.delete(job)
    assert platform.jobs.get(job) == before


def test_what_ended_is_deleted_once(platform):
    for state in TERMINAL:
        job = put(platform, state)
        platform.control.delete(job)
        with pytest.raises(NotFound):
            platform.control.delete(job)
    assert count(platform) == 0


@pytest.mark.parametrize("verb", ["cancel", "rerun", "delete"])
def test_a_job_that_is_none_is_not_found(platform, verb):
    with pytest.raises(NotFound):
        getattr(platform.control, verb)(new_id())


def test_a_job_whose_unique_key_is_taken_cannot_run_again(platform):
    ended = put(platform, JobState.FAILED, unique_key="one")
    holder = put(platform, JobState.SCHEDULED, unique_key="one")
    before = platform.jobs.get(ended)
    with pytest.raises(Conflict, match="unique key"):
        platform.control.rerun(ended)
    assert platform.jobs.get(ended) == before
    platform.control.cancel(holder)
    assert platform.control.rerun(ended).state == "queued"


def test_without_redis_the_verbs_work(platform):
    with without_redis(platform) as lame:
        (job,) = enqueue(lame)
        assert lame.control.cancel(job).state == "cancelled"
        assert lame.control.rerun(job).state == "queued"
        lame.control.cancel(job)
        lame.control.delete(job)
    assert count(platform) == 0


# ---- by filter
# -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "reach", "after"),
    [
        (Verb.CANCEL, PENDING | {JobState.RUNNING}, "cancelled"),
        (Verb.RERUN, TERMINAL, "queued"),
        (Verb.DELETE, TERMINAL, "gone"),
    ],
)
def test_a_verb_by_filter_moves_what_it_can_and_no_more(platform, verb, reach, after):
    jobs, others = one_of_each(platform), one_of_each(platform, queue="other")
    seen = platform.control.bulk(verb, JobFilter(queue="reports"), dry_run=True)
    assert seen == Bulk(len(reach), 0, dry_run=True)
    assert states(platform, list(jobs.values())) == list(jobs)
    assert platform.control.bulk(verb, JobFilter(queue="reports")) == Bulk(
        len(reach), len(reach), dry_run=False
    )
    expected = [after if state in reach - {JobState.RUNNING} else str(state) for state in jobs]
    assert states(platform, list(jobs.values())) == expected
    assert states(platform, list(others.values())) == list(others)


def test_a_filter_of_states_that_the_verb_cannot_move_moves_nothing(platform):
    one_of_each(platform)
    assert platform.control.bulk(Verb.CANCEL, JobFilter(states=tuple(TERMINAL))) == Bulk(0, 0, dry_run=False)
    assert platform.control.bulk(Verb.DELETE, JobFilter(states=(JobState.QUEUED,))) == Bulk(
        0, 0, dry_run=False
    )


def test_every_field_of_a_filter_narrows_it(platform):
    target = put(
        platform, JobState.FAILED, name="mail", queue="q", tags=["a", "b"], kwargs='{"to": "x_100%y"}'
    )
    for other in (
        {"name": "other"}, {"queue": "other"}, {"tags": ["b"]}, {"kwargs": '{"to": "x1100ay"}'},
        {"enqueued_at": "2020-01-01T00:00:00Z"},
    ):  # fmt: skip
        put(platform, JobState.FAILED, **{"name": "mail", "queue": "q", "tags": ["a"], **other})
    since = platform.jobs.get(target).enqueued_at - timedelta(seconds=1)
    which = JobFilter((JobState.FAILED,), "q", "mail", "a", since, since + timedelta(seconds=2), "X_100%")
    assert platform.control.bulk(Verb.DELETE, which) == Bulk(1, 1, dry_run=False)
    assert states(platform, [target]) == ["gone"]


def test_a_limit_takes_the_oldest(platform):
    jobs = enqueue(platform, 5)
    assert platform.control.bulk(Verb.CANCEL, JobFilter(), limit=2) == Bulk(
        2, 2, dry_run=False, complete=False
    )
    assert states(platform, jobs) == ["cancelled"] * 2 + ["queued"] * 3
    assert platform.control.bulk(Verb.CANCEL, JobFilter(), limit=0) == Bulk(
        0, 0, dry_run=False, complete=False
    )


def test_more_than_a_batch_is_moved_whole(platform):
    enqueue(platform, 1_201)
    assert platform.control.bulk(Verb.CANCEL, JobFilter()) == Bulk(1_201, 1_201, dry_run=False)
    assert platform.control.bulk(Verb.RERUN, JobFilter()) == Bulk(1_201, 1_201, dry_run=False)


def test_a_rerun_by_filter_leaves_out_those_whose_key_is_taken(platform):
    free = [put(platform, JobState.FAILED), put(platform, JobState.FAILED, unique_key="free")]
    twins = [put(platform, JobState.FAILED, unique_key="twins") for _ in range(2)]
    taken = put(platform, JobState.FAILED, unique_key="taken")
    put(platform, JobState.QUEUED, unique_key="taken")
    assert platform.control.bulk(Verb.RERUN, JobFilter()) == Bulk(5, 3, dry_run=False)
    assert states(platform, [*free, *twins, taken]) == ["queued", "queued", "queued", "failed", "failed"]


# ---- lists
# ---------------------------------------------------------------------------------------------------------


def test_a_list_is_newest_first_and_its_cursor_leads_through_it_once(platform):
    jobs = enqueue(platform, 25)
    seen, cursor = [], None
    while True:
        page = platform.jobs.page(JobFilter(), cursor=cursor, limit=10)
        seen += [job.id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        enqueue(platform)
    assert seen == jobs[::-1]
    assert platform.jobs.page(JobFilter(queue="none")).items == []


@pytest.mark.parametrize("cursor", ["", "x", "%%%", "é", "a" * 500, "AAAA"])
def test_a_cursor_that_no_list_gave_out_is_invalid_input(platform, cursor):
    with pytest.raises(InvalidInput):
        platform.jobs.page(JobFilter(), cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_page_is_bounded(platform, limit):
    with pytest.raises(InvalidInput):
        platform.jobs.page(JobFilter(), limit=limit)


def test_a_cancelled_job_does_not_run_and_one_that_runs_is_told(platform):
    with execution(platform) as worker:
        (job,) = claimed(platform, worker)
        platform.control.cancel(job.id)
        assert worker.report([]) == [(job.id, job.epoch, False)]
        worker.finish([Finish(job.id, job.epoch, job.claim_id, Verb.STOP)])
    assert platform.control.cancel(job.id).state == "cancelled"
