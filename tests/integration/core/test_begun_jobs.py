"""Which of the claimed jobs have begun: what queues, workers, gauges and `why` say."""

from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate.reasons import Code
from callboard.scheduler.gauges import Gauges
from tests.integration.core.factories import claimed, enqueue, put_job
from tests.samples import sample


def tell(platform, worker, jobs):
    """The supervisor looks at the board and renews the lease."""
    assert platform.workers.renew([worker.worker], {worker.worker: jobs}) == {worker.worker}


def shares(platform, queue="reports"):
    """How many jobs of the queue, and of each worker, have begun and are claimed ahead."""
    counts = platform.queues.get(queue)
    listed = next(each for each in platform.queues.every() if each.name == queue)
    assert (counts.running, counts.claimed) == (listed.running, listed.claimed)
    workers = platform.workers.live()
    return (counts.running, counts.claimed), [(each.running, each.claimed) for each in workers]


def codes(platform, job):
    return [reason.code for reason in platform.why.explain(job).reasons]


def test_a_worker_that_runs_one_of_its_jobs_has_claimed_the_others_ahead(platform, worker):
    first, second, third = [job.id for job in claimed(platform, worker, 3)]
    tell(platform, worker, [first])
    assert shares(platform) == ((1, 2), [(1, 2)])
    assert [codes(platform, job) for job in (first, second, third)] == [
        [Code.RUNNING], [Code.CLAIMED], [Code.CLAIMED],
    ]  # fmt: skip
    assert platform.why.is_claimed_ahead(platform.jobs.get(second))
    assert not platform.why.is_claimed_ahead(platform.jobs.get(first))


def test_nothing_has_begun_when_the_board_is_empty(platform, worker):
    claimed(platform, worker, 2)
    tell(platform, worker, [])
    assert shares(platform) == ((0, 2), [(0, 2)])


def test_where_nobody_looks_all_claimed_jobs_count_as_running(platform, worker):
    [job] = claimed(platform, worker, 1)
    assert shares(platform) == ((1, 0), [(1, 0)])
    assert codes(platform, job.id) == [Code.RUNNING]


def test_a_job_of_a_worker_that_is_gone_counts_as_running(platform):
    enqueue(platform)
    with platform.database.transaction() as connection:
        put_job(connection, JobState.RUNNING)
    assert shares(platform) == ((1, 0), [])


def test_jobs_that_have_ended_since_the_look_are_replaced_by_others(platform, worker):
    jobs = claimed(platform, worker, 4)
    tell(platform, worker, [job.id for job in jobs[:2]])
    ended = [Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE) for job in jobs[:2]]
    worker.finish(ended)
    assert shares(platform) == ((2, 0), [(2, 0)])
    later = claimed(platform, worker, 3)
    assert shares(platform) == ((2, 3), [(2, 3)])
    assert codes(platform, later[0].id) == [Code.RUNNING]


def test_the_jobs_of_each_queue_are_counted_for_it_alone(platform, worker):
    mail = enqueue(platform, 3, queue="mail")
    reports = enqueue(platform, 2)
    assert len(worker.claim([(job, 0) for job in [*mail, *reports]])) == 5
    tell(platform, worker, [mail[0], *reports, new_id()])
    assert shares(platform, "mail") == ((1, 2), [(3, 2)])
    assert shares(platform, "reports") == ((2, 0), [(3, 2)])


def test_a_renewal_that_tells_nothing_keeps_what_was_told(platform, worker):
    [job, _] = claimed(platform, worker, 2)
    tell(platform, worker, [job.id])
    platform.workers.renew([worker.worker])
    assert shares(platform) == ((1, 1), [(1, 1)])


def test_the_gauge_shows_what_is_claimed_ahead_as_a_state_of_its_own(platform, worker):
    [job, *_] = claimed(platform, worker, 5)
    tell(platform, worker, [job.id])
    gauges = Gauges(platform.queues)
    gauges.round()
    shown = [sample("callboard_queue_jobs", queue="reports", state=state) for state in ("running", "claimed")]
    gauges.clear()
    assert shown == [1, 4]
