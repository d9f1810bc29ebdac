"""Leases and what becomes of the jobs of workers that died."""

from contextlib import closing, suppress
from datetime import timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.errors import Busy
from callboard.jobs.metrics import JOB_CRASHES, JOB_RESCUES, JOBS_QUARANTINED
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import Verb
from callboard.jobs.platform import Platform
from tests.integration.core.factories import (
    at_once,
    claimed,
    enqueue,
    execution,
    lease,
    run_out,
    run_sql,
    states,
    url_of,
    without_redis,
)


def ids(jobs):
    return [job.id for job in jobs]


def standing(platform, job_ids):
    """The state of each, the crashes that it caused and is suspected of, and whether it is to run alone."""
    statement = text("SELECT state, crash_count, suspected, solo FROM callboard.jobs WHERE id = :id")
    with platform.database.autocommit() as connection:
        return [tuple(connection.execute(statement, {"id": job}).one()) for job in job_ids]


def crash(platform, job_id):
    """Claim the job once more, and let the worker die on it."""
    with execution(platform) as doomed:
        (job,) = doomed.claim_oldest("reports", 1) or doomed.claim_solo(["build_report"], [])
        assert job.id == job_id
        return platform.workers.end(doomed.worker, [job_id])


def test_a_workers_end_gives_back_what_it_held_and_blames_what_had_started(platform, worker):
    started, waiting = claimed(platform, worker, 2)
    rescues = JOB_RESCUES.labels("reports")._value.get()
    assert platform.workers.end(worker.worker, [started.id]) == 2
    one, two = platform.jobs.get_many([started.id, waiting.id])
    assert [(job.state, job.attempt, job.crash_count) for job in (one, two)] == [
        ("queued", 0, 1),
        ("queued", 0, 0),
    ]
    assert platform.workers.live() == []
    assert JOB_RESCUES.labels("reports")._value.get() == rescues + 2
    tokens = set(platform.transport.pop(["reports"], 9, 0.1))
    # the cause is run alone, and is in no queue that others take from
    assert (one.solo, two.solo) == (True, False)
    offered = f"{waiting.id}:{waiting.epoch + 1}".encode() in tokens
    assert (offered, f"{started.id}:{started.epoch + 1}".encode() in tokens) == (True, False)


def test_a_workers_end_is_told_once(platform, worker):
    claimed(platform, worker)
    assert platform.workers.end(worker.worker, None) == 1
    assert platform.workers.end(worker.worker, None) == 0
    assert platform.workers.end(new_id(), None) == 0


def test_a_worker_that_ends_well_blames_nobody(platform, worker):
    jobs = claimed(platform, worker, 2)
    assert platform.workers.end(worker.worker, []) == 2
    assert {platform.jobs.get(job).crash_count for job in ids(jobs)} == {0}


def test_when_nobody_knows_what_had_begun_a_lone_job_is_the_cause(platform, worker):
    (job,) = claimed(platform, worker)
    platform.workers.end(worker.worker, None)
    assert standing(platform, [job.id]) == [("queued", 1, 0, True)]
    (error,) = platform.jobs.get(job.id).errors
    assert (error["class"], error["attempt"], error["worker"]) == ("WorkerDied", 1, "host:1")
    assert "lease" in error["message"]


@pytest.mark.parametrize("known", [True, False])
def test_several_suspects_run_on_normally_and_alone_from_their_second_suspicion_on(platform, known):
    jobs = enqueue(platform, 2)
    for suspected, solo in ((1, False), (2, True)):
        with execution(platform) as doomed:
            assert len(doomed.claim_oldest("reports", 2)) == 2
            if known:
                platform.workers.end(doomed.worker, jobs)
            else:
                run_out(platform, doomed.worker)
                platform.workers.reap()
        assert standing(platform, jobs) == [("queued", 0, suspected, solo)] * 2
    assert [platform.jobs.get(job).errors for job in jobs] == [[], []]


def test_what_had_not_begun_is_not_suspected(platform, worker):
    guilty, other, idle = claimed(platform, worker, 3)
    platform.workers.end(worker.worker, [guilty.id, other.id])
    assert standing(platform, [guilty.id, other.id, idle.id]) == [
        ("queued", 0, 1, False),
        ("queued", 0, 1, False),
        ("queued", 0, 0, False),
    ]


#: Deaths of the process of one job, in order: `beside` others that had begun, `alone`, or `idle`, when the job
#: had not begun, or `unseen` and alone, when the supervisor died too; `ended` is an attempt that ended by itself and is followed by another. With them: the crashes
#: that count, the suspicions, and where the job stands then.
DEATHS = [
    (["beside"], ("queued", 0, 1, False)),
    (["beside", "beside"], ("queued", 0, 2, True)),
    (["beside", "beside", "alone"], ("quarantined", 3, 0, True)),
    (["beside", "alone"], ("queued", 2, 0, True)),
    (["beside", "alone", "alone"], ("quarantined", 3, 0, True)),
    (["alone"], ("queued", 1, 0, True)),
    (["alone", "alone"], ("queued", 2, 0, True)),
    (["alone", "alone", "alone"], ("quarantined", 3, 0, True)),
    (["alone", "beside"], ("queued", 1, 1, True)),
    (["beside", "ended", "beside"], ("queued", 0, 1, False)),
    (["beside", "beside", "ended", "beside"], ("queued", 0, 1, False)),
    (["alone", "ended", "beside"], ("queued", 1, 1, True)),
    (["beside", "idle", "idle"], ("queued", 0, 1, False)),
    (["beside", "beside", "idle"], ("queued", 0, 2, True)),
    (["idle", "idle", "idle"], ("queued", 0, 0, False)),
    (["unseen"], ("queued", 1, 0, True)),
    (["beside", "beside", "unseen"], ("queued", 1, 2, True)),
    (["beside", "beside", "unseen", "ended"], ("queued", 1, 0, False)),
    (["beside", "beside", "unseen", "alone"], ("quarantined", 4, 0, True)),
    (["beside", "unseen", "unseen", "unseen"], ("quarantined", 3, 1, True)),
    (["beside"] * 5, ("queued", 0, 5, True)),
    (["beside"] * 5 + ["alone"], ("quarantined", 6, 0, True)),
]


@pytest.mark.parametrize(("deaths", "stands"), DEATHS, ids=lambda value: "-".join(map(str, value)))
def test_the_deaths_of_its_processes_decide_what_becomes_of_a_job(platform, deaths, stands):
    (job,) = enqueue(platform)
    for death in deaths:
        with execution(platform) as doomed:
            (held,) = doomed.claim_oldest("reports", 1) or doomed.claim_solo(["build_report"], [])
            if death == "ended":
                doomed.finish([Finish(held.id, held.epoch, held.claim_id, Verb.SNOOZE)])
                run_sql(platform, "UPDATE callboard.jobs SET state = 'queued' WHERE id = :id", id=job)
            else:
                of = {"beside": [job, new_id()], "alone": [job], "idle": [new_id()], "unseen": None}
                suspects = of[death]
                platform.workers.end(doomed.worker, suspects)
    assert standing(platform, [job]) == [stands]


def test_a_run_alone_clears_the_innocent_and_convicts_the_cause_with_all_its_deaths(platform):
    guilty, other = enqueue(platform, 2)
    for _ in range(2):
        with execution(platform) as doomed:
            doomed.claim_oldest("reports", 2)
            platform.workers.end(doomed.worker, [guilty, other])
    crashes = JOB_CRASHES.labels("reports", "build_report")._value.get()
    quarantined = JOBS_QUARANTINED.labels("reports", "build_report")._value.get()
    for _ in range(2):
        with execution(platform) as alone:
            for job in alone.claim_solo(["build_report"], ["reports"]):
                if job.id == other:
                    alone.finish([Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE)])
                else:
                    platform.workers.end(alone.worker, [job.id], how="the process was killed by SIGSEGV")
    assert standing(platform, [guilty, other]) == [("quarantined", 3, 0, True), ("succeeded", 0, 0, False)]
    assert [(one["class"], one["message"]) for one in platform.jobs.get(guilty).errors] == [
        ("WorkerDied", "the process was killed by SIGSEGV")
    ]
    assert JOB_CRASHES.labels("reports", "build_report")._value.get() == crashes + 1
    assert JOBS_QUARANTINED.labels("reports", "build_report")._value.get() == quarantined + 1


def test_what_was_quarantined_runs_alone_when_it_is_run_again(platform):
    (job,) = enqueue(platform)
    for _ in range(3):
        crash(platform, job)
    assert platform.jobs.get(job).state == "quarantined"
    again = platform.control.rerun(job)
    assert (again.state, again.crash_count, again.solo, len(again.errors)) == ("queued", 0, True, 3)


def test_the_third_crash_quarantines_and_a_rerun_begins_anew(platform):
    (job,) = enqueue(platform)
    for crashes, state in ((1, "queued"), (2, "queued"), (3, "quarantined")):
        assert crash(platform, job) == 1
        now = platform.jobs.get(job)
        assert (now.state, now.crash_count, now.attempt) == (state, crashes, 0)
    assert now.finished_at is not None
    again = platform.control.rerun(job)
    assert (again.state, again.crash_count, again.finished_at) == ("queued", 0, None)


def test_a_bystander_of_a_third_crash_is_not_quarantined(platform):
    (job,) = enqueue(platform)
    crash(platform, job)
    crash(platform, job)
    with execution(platform) as doomed:
        assert ids(doomed.claim_solo(["build_report"], [])) == [job]
        platform.workers.end(doomed.worker, [])
    assert (platform.jobs.get(job).state, platform.jobs.get(job).crash_count) == ("queued", 2)


def test_what_was_asked_to_stop_is_cancelled_with_its_worker(platform, worker):
    asked, other = claimed(platform, worker, 2)
    platform.control.cancel(asked.id)
    platform.workers.end(worker.worker, None)
    assert states(platform, [asked.id, other.id]) == ["cancelled", "queued"]
    assert platform.jobs.get(asked.id).finished_at is not None


def test_only_what_runs_under_that_lease_is_taken(platform, worker):
    done, mine = claimed(platform, worker, 2)
    worker.finish([Finish(done.id, done.epoch, done.claim_id, Verb.COMPLETE)])
    with execution(platform) as other:
        theirs = claimed(platform, other)[0]
        assert platform.workers.end(worker.worker, None) == 1
    assert states(platform, [done.id, mine.id, theirs.id]) == ["succeeded", "queued", "running"]


def test_only_leases_that_have_run_out_are_reaped(platform, worker):
    with execution(platform) as other:
        dead, alive = claimed(platform, worker, 2), claimed(platform, other)
        run_out(platform, worker.worker)
        assert platform.workers.reap() == 2
        assert platform.workers.reap() == 0
        assert states(platform, ids([*dead, *alive])) == ["queued", "queued", "running"]
        assert [one.id for one in platform.workers.live()] == [other.worker]


def test_reapers_at_once_take_every_job_back_once(platform):
    held = []
    for _ in range(4):
        with execution(platform) as doomed:
            held += claimed(platform, doomed, 5)
            run_out(platform, doomed.worker)
    assert sum(at_once(4, lambda _: platform.workers.reap())) == 20
    assert {job.attempt for job in platform.jobs.get_many(ids(held))} == {0}
    assert set(standing(platform, ids(held))) == {("queued", 0, 1, False)}


def test_a_claim_and_the_end_of_its_lease_at_once_leave_nothing_running(platform):
    def claim(worker, jobs):
        # whoever ends the lease may hold it for longer than a claim waits
        with suppress(Busy):
            worker.claim([(job, 0) for job in jobs])

    for _ in range(10):
        jobs = enqueue(platform, 20)
        with execution(platform) as doomed:
            ends = [
                lambda doomed=doomed, jobs=jobs: claim(doomed, jobs),
                lambda doomed=doomed: platform.workers.end(doomed.worker, None),
            ]
            at_once(2, lambda turn, ends=ends: ends[turn]())
        assert set(states(platform, jobs)) == {"queued"}


def test_a_renewal_lengthens_every_lease_that_has_not_been_judged(platform):
    alive, late, judged = lease(platform), lease(platform), lease(platform)
    run_out(platform, judged)
    platform.workers.reap()
    run_out(platform, late)
    before = {worker.id: worker.lease_expires_at for worker in platform.workers.live()}
    assert platform.workers.renew([alive, late, judged, new_id()]) == {alive, late}
    after = {worker.id: worker.lease_expires_at for worker in platform.workers.live()}
    assert all(after[worker] > before[worker] for worker in (alive, late))
    assert platform.workers.renew([]) == set()


def test_a_draining_worker_keeps_its_lease_and_what_it_runs(platform, worker):
    claimed(platform, worker)
    platform.workers.drain(worker.worker)
    (seen,) = platform.workers.live()
    assert (seen.running, seen.draining_since is not None) == (1, True)
    assert platform.workers.renew([seen.id]) == {seen.id}


def test_without_redis_jobs_are_rescued_all_the_same(platform, worker):
    job = claimed(platform, worker)[0]
    with without_redis(platform) as lame:
        assert lame.workers.end(worker.worker, None) == 1
    assert states(platform, [job.id]) == ["queued"]


def test_the_lease_is_as_long_as_the_platform_says(platform):
    url = url_of(platform)
    with closing(Platform(url, "redis://127.0.0.1:1/0", lease=timedelta(hours=5))) as patient:
        worker = lease(patient)
        (seen,) = patient.workers.live()
        assert timedelta(hours=4) < seen.lease_expires_at - seen.started_at <= timedelta(hours=5, seconds=1)
        run_sql(platform, "DELETE FROM callboard.workers WHERE id = :id", id=worker)
