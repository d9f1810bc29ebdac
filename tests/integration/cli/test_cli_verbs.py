"""`callboard job cancel|retry|delete`, by ids and by filter."""

import pytest

from callboard.jobs.model.states import Verb

MISSING = "01a204f3-1779-7083-a62d-f85f810aa57a"


def state(callboard, job_id: str) -> str:
    return callboard("job", "show", job_id, "--json").json["state"]


def test_cancel_by_ids_ends_what_has_not_begun_and_asks_what_runs(callboard, worker, enqueued):
    running = enqueued()
    worker.start("reports")
    queued = enqueued()
    outcome = callboard("job", "cancel", queued, running)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == f"job {queued} is cancelled\njob {running} is running and was asked to stop\n"
    assert callboard("job", "show", running, "--json").json["cancel_requested_at"] is not None


def test_cancel_by_force_is_asked_of_what_runs_by_id_and_by_filter(callboard, platform, worker, enqueued):
    one = enqueued()
    held = worker.start("reports")
    outcome = callboard("job", "cancel", one, "--force")
    assert (outcome.code, outcome.err) == (0, f"job {one} is running and was asked to stop\n")
    assert platform.workers.forced([worker.id]) == {held.id}
    two = enqueued()
    also = worker.start("reports")
    assert two == str(also.id)
    assert callboard("job", "cancel", "--state", "running", "--yes").code == 0
    assert platform.workers.forced([worker.id]) == {held.id}
    assert callboard("job", "cancel", "--state", "running", "--force", "--yes").code == 0
    assert platform.workers.forced([worker.id]) == {held.id, also.id}
    assert callboard("job", "retry", one, "--force").code == 2


def test_cancel_with_json_prints_the_jobs(callboard, enqueued):
    job_id = enqueued()
    items = callboard("job", "cancel", job_id, "--json").json["items"]
    assert [(job["id"], job["state"]) for job in items] == [(job_id, "cancelled")]


def test_retry_queues_a_failed_job_again(callboard, worker, enqueued):
    job_id = enqueued()
    worker.end(worker.start("reports"), Verb.FAIL)
    outcome = callboard("job", "retry", job_id)
    assert (outcome.code, outcome.err) == (0, f"job {job_id} is queued\n")
    job = callboard("job", "show", job_id, "--json").json
    assert (job["state"], job["attempt"], len(job["errors"])) == ("queued", 0, 1)


def test_delete_removes_a_finished_job(callboard, platform, enqueued):
    job_id = enqueued()
    platform.control.cancel(job_id)
    outcome = callboard("job", "delete", job_id, "--json")
    assert outcome.json == {"items": [{"id": job_id}], "next_cursor": None}
    assert callboard("job", "show", job_id).code == 3


def test_a_job_in_the_wrong_state_is_a_conflict(callboard, enqueued):
    job_id = enqueued()
    for verb, done in (("retry", "retried"), ("delete", "deleted")):
        outcome = callboard("job", verb, job_id)
        assert outcome.code == 5
        assert (
            outcome.error
            == f"job {job_id} cannot be {done}: it is queued; cancel it first, or wait for its end"
        )


def test_one_refusal_hinders_no_other_and_sets_the_exit_code(callboard, enqueued):
    job_id = enqueued()
    outcome = callboard("job", "cancel", MISSING, job_id)
    assert outcome.code == 3
    assert outcome.err == f"job {job_id} is cancelled\nerror: there is no job {MISSING}\n"
    assert state(callboard, job_id) == "cancelled"


def test_by_filter_only_what_fits_is_changed(callboard, enqueued):
    report, mail = enqueued("build_report"), enqueued("send_mail")
    outcome = callboard("job", "cancel", "--queue", "mail", "--since", "1h", "--yes")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "1 job cancelled, or asked to stop\n")
    assert (state(callboard, report), state(callboard, mail)) == ("queued", "cancelled")


def test_a_dry_run_counts_and_changes_nothing(callboard, enqueued):
    job_id = enqueued()
    assert (
        callboard("job", "cancel", "--state", "queued", "--dry-run").err
        == "1 job would be cancelled, or asked to stop\n"
    )
    outcome = callboard("job", "cancel", "--state", "queued", "--dry-run", "--json")
    assert outcome.json == {"matched": 1, "changed": 0, "dry_run": True, "complete": True}
    assert state(callboard, job_id) == "queued"


def test_the_limit_takes_the_oldest(callboard, enqueued):
    first, second = enqueued(), enqueued()
    outcome = callboard("job", "cancel", "--state", "queued", "--limit", 1, "--yes", "--json")
    assert outcome.json == {"matched": 1, "changed": 1, "dry_run": False, "complete": False}
    assert (state(callboard, first), state(callboard, second)) == ("cancelled", "queued")


def test_nothing_that_fits_is_no_failure(callboard):
    outcome = callboard("job", "retry", "--state", "failed", "--yes")
    assert (outcome.code, outcome.err) == (0, "no job to retry matches\n")


def test_on_a_terminal_it_asks_with_the_count_first(callboard, enqueued, monkeypatch):
    job_id = enqueued()
    monkeypatch.setattr("callboard.cli.console.output.interactive", lambda: True)
    refused = callboard("job", "cancel", "--state", "queued", "--queue", "reports", stdin="n\n")
    assert refused.code == 1
    assert refused.err.startswith("cancel 1 job (queued, queue reports)? [y/N]: ")
    assert refused.err.endswith("nothing was changed\n")
    assert state(callboard, job_id) == "queued"
    assert callboard("job", "cancel", "--state", "queued", stdin="y\n").code == 0
    assert state(callboard, job_id) == "cancelled"


def test_yes_does_not_ask(callboard, enqueued, monkeypatch):
    enqueued()
    monkeypatch.setattr("callboard.cli.console.output.interactive", lambda: True)
    outcome = callboard("job", "cancel", "--state", "queued", "--yes")
    assert (outcome.code, outcome.err) == (0, "1 job cancelled, or asked to stop\n")


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete"])
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "give job ids, or a filter such as --state or --queue"),
        ([MISSING, "--queue", "mail"], 2, "ids and filters cannot be used together"),
        ([MISSING, "--dry-run"], 2, "ids and filters cannot be used together"),
        (["--limit", "5"], 2, "give job ids, or a filter"),
        (["seven"], 2, "invalid value for '[ID]...': not an id: 'seven'"),
        ([MISSING], 3, f"there is no job {MISSING}"),
    ],
)
def test_bad_input_is_refused_in_one_line(callboard, verb, options, code, said):
    outcome = callboard("job", verb, *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(said)
