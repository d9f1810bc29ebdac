"""What becomes of the jobs of a worker that was killed because one of them ran beyond its hard deadline."""

from datetime import datetime

import pytest

from callboard.jobs.metrics import HARD_TIMEOUTS
from tests.integration.core.factories import claimed, execution, run_sql, states


def killed(platform, worker, *late):
    return platform.workers.end(worker.worker, [], overdue=dict.fromkeys([job.id for job in late], 1.5))


def test_the_late_job_is_tried_again_and_the_others_go_back_untouched(platform, worker):
    late, begun = claimed(platform, worker, 2)
    counted = HARD_TIMEOUTS.labels("reports", "build_report")._value.get()
    assert killed(platform, worker, late) == 2
    one, two = platform.jobs.get(late.id), platform.jobs.get(begun.id)
    assert (one.state, one.attempt, one.crash_count, one.solo) == ("retrying", 1, 0, False)
    assert (two.state, two.attempt, two.crash_count, two.solo) == ("queued", 0, 0, False)
    (error,) = one.errors
    assert (
        error["message"]
        == "the attempt took longer than its hard timeout of 1.5 s, and its process was killed"
    )
    assert (error["attempt"], error["class"], error["worker"]) == (
        1,
        "TimedOut",
        "host:1",
    )
    assert error["at"].endswith("Z")
    assert HARD_TIMEOUTS.labels("reports", "build_report")._value.get() == counted + 1
    assert platform.workers.live() == []


@pytest.mark.parametrize(("attempt", "least", "most"), [(1, 0, 1), (5, 1, 16), (900, 100, 3600)])
def test_the_delay_before_its_next_attempt_is_drawn_from_a_range_that_grows_and_has_an_end(
    platform, worker, attempt, least, most
):
    late = claimed(platform, worker, 30, max_attempts=1000)
    run_sql(platform, "UPDATE callboard.jobs SET attempt = :attempt WHERE state = 'running'", attempt=attempt)
    killed(platform, worker, *late)
    found = platform.jobs.get_many([job.id for job in late])
    delays = [(job.run_at - datetime.fromisoformat(job.errors[0]["at"])).total_seconds() for job in found]
    assert len(delays) == 30
    assert least < max(delays) <= most + 1
    assert min(delays) < max(delays) / 2


@pytest.mark.parametrize(
    ("attempt", "bounds", "least", "most"),
    [(1, {"min_backoff": "10m"}, 600, 600), (900, {"max_backoff": "5s"}, 0, 5)],
)
def test_the_delay_keeps_to_the_bounds_that_the_enqueue_asked_for(
    platform, worker, attempt, bounds, least, most
):
    (late,) = claimed(platform, worker, max_attempts=1000, **bounds)
    run_sql(platform, "UPDATE callboard.jobs SET attempt = :attempt WHERE state = 'running'", attempt=attempt)
    killed(platform, worker, late)
    job = platform.jobs.get(late.id)
    assert (
        least <= (job.run_at - datetime.fromisoformat(job.errors[0]["at"])).total_seconds() + 0.5 <= most + 1
    )


def test_the_last_attempt_fails(platform, worker):
    (late,) = claimed(platform, worker, max_attempts=1)
    killed(platform, worker, late)
    done = platform.jobs.get(late.id)
    assert (done.state, done.attempt, done.finished_at is not None) == ("failed", 1, True)


def test_what_was_asked_to_stop_is_cancelled(platform, worker):
    late, asked, other = claimed(platform, worker, 3)
    platform.control.cancel(late.id, force=True)
    platform.control.cancel(asked.id)
    platform.workers.end(worker.worker, [], overdue={late.id: 0.0})
    assert states(platform, [late.id, asked.id, other.id]) == ["cancelled", "cancelled", "queued"]
    (error,) = platform.jobs.get(late.id).errors
    assert (error["class"], error["message"]) == (
        "Cancelled", "cancelled by force: it did not stop, and its process was killed",
    )  # fmt: skip
    assert platform.jobs.get(asked.id).errors == []


def test_a_job_that_somebody_else_runs_by_now_is_not_blamed(platform, worker):
    (late,) = claimed(platform, worker)
    worker.hand_back([late])
    with execution(platform) as other:
        (again,) = other.claim([(late.id, late.epoch + 1)])
        assert killed(platform, worker, late) == 0
        assert states(platform, [again.id]) == ["running"]


def test_a_worker_whose_lease_is_judged_already_blames_nobody(platform, worker):
    (late,) = claimed(platform, worker)
    platform.workers.end(worker.worker, [])
    assert killed(platform, worker, late) == 0
    assert (platform.jobs.get(late.id).state, platform.jobs.get(late.id).errors) == ("queued", [])


def test_a_forced_cancel_is_heard_by_the_worker_and_forgotten_with_a_rerun(platform, worker):
    asked, forced = claimed(platform, worker, 2)
    platform.control.cancel(asked.id)
    platform.control.cancel(forced.id)
    platform.control.cancel(forced.id, force=True)
    platform.control.cancel(forced.id)
    heard = worker.report([])
    assert {(one.id, one.epoch, one.forced) for one in heard} == {
        (asked.id, asked.epoch, False), (forced.id, forced.epoch, True),
    }  # fmt: skip
    assert platform.workers.forced([worker.worker]) == {forced.id}
    platform.workers.end(worker.worker, [], overdue={forced.id: 0.0})
    assert platform.control.rerun(forced.id).cancel_requested_at is None
    with execution(platform) as other:
        assert [job.id for job in other.claim_oldest("reports", 9)] == [forced.id]
        assert other.report([]) == []
        assert platform.workers.forced([other.worker]) == set()
