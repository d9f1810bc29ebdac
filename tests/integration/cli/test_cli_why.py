"""`callboard job why`, and what `doctor` says of jobs that workers put off."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.attempts.repository import ending
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import Verb

MISSING = "01a204f3-1779-7083-a62d-f85f810aa57a"
REASON = "stage:4711: does not know the job 'build_report'"


@pytest.fixture
def put_off(platform, worker, enqueued):
    """A job that a worker put off."""

    def put_off() -> str:
        job_id = enqueued()
        job = worker.start("reports")
        end = Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=timedelta(minutes=2), put_off=REASON)
        with platform.database.transaction() as connection:
            ending.finish(connection, [end])
        return job_id

    return put_off


def test_the_reasons_are_one_document(callboard, platform, worker, enqueued):
    job_id = enqueued()
    platform.queues.pause("reports")
    outcome = callboard("job", "why", job_id, "--json")
    assert outcome.code == 0
    assert (outcome.json["job_id"], outcome.json["state"]) == (job_id, "queued")
    paused, *others = outcome.json["reasons"]
    assert [reason["code"] for reason in others] == ["no_scheduler"]
    assert set(paused) == {"code", "message", "data"}
    assert paused["code"] == "queue_paused"
    assert paused["message"].endswith("; resume it: callboard queue resume reports")
    assert paused["data"]["queue"] == "reports"
    assert paused["data"]["paused_at"].endswith("Z")


def test_the_card_fits_eighty_columns_and_has_the_mend_below_the_reason(
    callboard, platform, worker, enqueued
):
    job_id = enqueued()
    platform.queues.pause("reports")
    outcome = callboard("job", "why", job_id)
    lines = outcome.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[:2] == ["build_report  queued", job_id]
    said = [line.strip() for line in lines]
    at = said.index("resume it: callboard queue resume reports")
    assert said[at - 1].startswith("1  the queue reports has been paused for ")
    assert said[at + 1].startswith("2  no scheduler leads")


def test_a_limit_names_the_jobs_that_use_it_with_their_whole_ids(callboard, platform, worker, enqueued):
    running = [enqueued() for _ in range(3)]
    for _ in running:
        worker.start("reports")
    job_id = enqueued()
    with platform.database.transaction() as connection:
        connection.execute(text("UPDATE callboard.queues SET concurrency = 3 WHERE name = 'reports'"))
    outcome = callboard("job", "why", job_id)
    assert all(len(line) <= 80 for line in outcome.out.splitlines())
    assert all(one in outcome.out for one in running)
    reasons = callboard("job", "why", job_id, "--json").json["reasons"]
    limited = next(reason for reason in reasons if reason["code"] == "queue_concurrency")
    assert sorted(limited["data"]["jobs"]) == sorted(running)


def test_a_finished_job_says_how_it_ended(callboard, worker, enqueued):
    job_id = enqueued()
    worker.end(worker.start("reports"), Verb.FAIL)
    out = " ".join(callboard("job", "why", job_id).out.split())
    assert "it failed" in out
    assert "(ValueError: no such account)" in out
    assert f"run it again: callboard job retry {job_id}" in out


@pytest.mark.parametrize(
    ("job_id", "code", "said"),
    [(MISSING, 3, f"there is no job {MISSING}"), ("seven", 2, "invalid value for 'ID': not an id: 'seven'")],
)
def test_what_is_no_job_is_refused(callboard, job_id, code, said):
    outcome = callboard("job", "why", job_id)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(said)


def test_a_job_that_was_put_off_says_so_and_doctor_names_it(callboard, put_off):
    job_id = put_off()
    put_off()
    reasons = callboard("job", "why", job_id, "--json").json["reasons"]
    assert [reason["code"] for reason in reasons[:2]] == ["not_due", "put_off"]
    assert REASON in reasons[1]["message"]
    assert "put off" in callboard("job", "show", job_id).out
    checks = callboard("doctor", "--json").json["checks"]
    (told,) = [check for check in checks if check["name"] == "put off"]
    assert told["status"] == "warn"
    assert told["message"] == f"workers put off what they cannot run: build_report (2), {REASON}"
    assert told["mend"]
    callboard("job", "cancel", "--name", "build_report", "--yes")
    assert "put off" not in callboard("doctor").out
