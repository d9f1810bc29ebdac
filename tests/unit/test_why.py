"""The words of reasons, and how long a job is put off."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.put_off import Misfit, delay_after, put_off
from callboard.jobs.dramatiq.definition import unknown
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate import claim_reasons, reasons
from callboard.jobs.operate.reasons import Code, Reason
from callboard.jobs.operate.surroundings import MOST_COUNTED, ServingWorker
from callboard.workers.execute.attempt import Attempt, PutOff

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def a_job(**columns) -> Job:
    values = dict.fromkeys(Job.__dataclass_fields__)
    values |= {
        "id": new_id(), "name": "build_report", "queue": "reports", "state": JobState.QUEUED, "attempt": 2,
        "max_attempts": 10, "run_at": NOW, "errors": [], "put_off": 0, "limit_key": "seven",
    }  # fmt: skip
    return Job(**(values | columns))


def claimed(**columns) -> ClaimedJob:
    values = {
        "id": new_id(), "epoch": 3, "claim_id": new_id(), "name": "build_report", "queue": "reports", "args_json": "[]",
        "kwargs_json": "{}", "put_off": 0,
    }  # fmt: skip
    return ClaimedJob(**(dict.fromkeys(ClaimedJob._fields) | values | columns))


def test_a_message_is_the_reason_and_what_to_do_about_it():
    assert Reason(Code.READY, "all is well").message == "all is well"
    assert Reason(Code.READY, "it stands", mend="push it").message == "it stands; push it"


def test_every_code_is_a_word_that_stays():
    assert [str(code) for code in Code] == [
        "finished", "running", "claimed", "cancel_requested", "worker_held", "not_due", "waiting_for_parents", "queue_paused",
        "queue_concurrency", "queue_rate", "key_concurrency", "key_rate", "solo", "no_worker", "job_unknown",
        "workers_busy", "put_off", "backlog", "no_scheduler", "expires_soon", "ready",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (reasons.not_due(a_job(state=JobState.SCHEDULED, run_at=NOW + timedelta(minutes=3)), NOW),
         "it is due in 3m, at 2026-11-22 09:03:00 UTC"),
        (reasons.not_due(a_job(state=JobState.RETRYING, run_at=NOW + timedelta(seconds=75, milliseconds=400),
                               errors=[{"class": "ValueError", "message": "no"}]), NOW),
         "attempt 2 of 10 failed; the next is due in 1m15s, at 2026-11-22 09:01:15 UTC (ValueError: no)"),
        (reasons.running(a_job(started_at=NOW - timedelta(hours=2)), "host:7", NOW),
         "it has been running for 2h, at attempt 2 of 10, on worker host:7"),
        (claim_reasons.claimed(a_job(started_at=NOW - timedelta(seconds=90)), "host:7", NOW),
         "claimed by worker host:7 1m30s ago, not started yet: the jobs that run there come first"),
        (reasons.concurrency(a_job(), 1, [new_id()], by_key=True),
         "the key seven in the queue reports has 1 of 1 running or granted: "),
        (reasons.ready(a_job(), NOW + timedelta(seconds=9)),
         "nothing blocks it: it should start within a second"),
        (reasons.ready(a_job(), NOW + timedelta(minutes=3)),
         "no reason is known, although it has been due for 3m"),
        (reasons.backlog(a_job(), 1), "1 job comes before it in the queue reports"),
        (reasons.backlog(a_job(), 1234), "1,234 jobs come before it in the queue reports"),
        (reasons.backlog(a_job(), MOST_COUNTED), "at least 10,000 jobs come before it in the queue reports"),
        (reasons.put_off(a_job(put_off=1, put_off_reason="h:1: no")),
         "it was put off once by workers that cannot run it (h:1: no)"),
        (reasons.solo([ServingWorker(f"host{n}:1", True, 8, 64, 0) for n in range(5)]),
         ("it waits for its run alone, because workers died while it ran: it runs next in a process of its own, which a"
          " worker on host0, host1, host2 and 2 more starts")),
        (reasons.workers_busy([ServingWorker("h:1", True, 8, 64, 20), ServingWorker("h:2", True, 8, 64, 30)]),
         "all 2 workers that can run it are busy: 50 jobs for 16 threads"),
        (reasons.job_unknown(a_job(), [ServingWorker("h:1", False, 8, 64, 0)]),
         "the one live worker that serves the queue reports does not know the job build_report"),
    ],
)  # fmt: skip
def test_a_reason_is_one_plain_line(reason, said):
    assert reason.text.startswith(said)
    assert "\n" not in reason.message


def test_a_time_that_has_just_passed_is_not_told_as_negative():
    assert "in 0ms" in reasons.expires_soon(NOW - timedelta(seconds=3), NOW).text


def test_a_job_is_put_off_for_five_seconds_then_ever_longer_up_to_five_minutes():
    for times, plain in ((0, 5), (1, 10), (2, 20), (5, 160), (6, 300), (7, 300), (30_000, 300)):
        waits = [delay_after(times).total_seconds() for _ in range(200)]
        assert plain * 0.75 <= min(waits) < max(waits) <= min(plain * 1.25, 300)


def test_a_put_off_is_a_snooze_that_names_the_worker_and_what_was_wrong():
    job = claimed(put_off=2)
    end = put_off(job, "host:7", Misfit.UNKNOWN, "does not know the job 'x\x00'" + "!" * 1_000)
    assert (end.id, end.epoch, end.claim_id, end.verb) == (job.id, job.epoch, job.claim_id, Verb.SNOOZE)
    assert end.put_off.startswith("host:7: does not know the job 'x\N{REPLACEMENT CHARACTER}'!")
    assert len(end.put_off) == 500
    assert timedelta(seconds=15) <= end.delay <= timedelta(seconds=25)


def test_arguments_that_do_not_fit_put_the_job_off_and_do_not_count_as_begun():
    job = claimed(kwargs_json='{"tone": 2}')
    attempt = Attempt(
        job,
        unknown(job.name, job.queue),
        RunningJob(job, None, print, print),
        SimpleNamespace(worker="host:7"),
        SimpleNamespace(monotonic=lambda: 1.0, now=lambda: NOW),
    )
    attempt.began_at = 0.5
    with pytest.raises(PutOff) as caught:
        attempt.arguments()
    attempt.raised(caught.value)
    assert attempt.finish.put_off == "host:7: cannot call it, kwargs.tone: no such argument"
    assert attempt.began_at is None
