"""Cancel, retry and delete over HTTP; queues, the catalogue and workers."""

import pytest
from sqlalchemy import text

from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.model.basics.ids import new_id
from tests.integration.api_client import api_in_process, error_of, finish


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def test_a_job_that_has_not_begun_is_cancelled_and_stays_so(api):
    job = api.operator.enqueue()
    for _ in range(2):
        answer = api.operator.post(f"/v1/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")


def test_a_running_job_is_cancelled_by_force_one_or_by_filter(api):
    def forced():
        with api.platform.database.autocommit() as connection:
            asked = connection.execute(text("SELECT cancel_forced FROM callboard.jobs ORDER BY id"))
            return list(asked.scalars())

    jobs = [api.operator.enqueue() for _ in range(3)]
    with api.platform.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE callboard.jobs SET state = 'running', started_at = now(),"
                " worker_id = gen_random_uuid(), claim_id = gen_random_uuid()"
            )
        )
    for body in (None, {}, {"force": False}):
        assert api.operator.post(f"/v1/jobs/{jobs[0]['id']}/cancel", body).json()["cancel_requested_at"]
    assert forced() == [False, False, False]
    assert api.operator.post(f"/v1/jobs/{jobs[0]['id']}/cancel", {"force": True}).status_code == 200
    assert forced() == [True, False, False]
    body = {"state": "running", "force": True, "limit": 2}
    assert api.operator.post("/v1/jobs/cancel", body).json()["changed"] == 2
    assert forced() == [True, True, False]
    for wrong in ({"force": "yes"}, {"hard": True}, []):
        error_of(api.operator.post(f"/v1/jobs/{jobs[2]['id']}/cancel", wrong), 400, "VALIDATION_ERROR")
    error_of(api.operator.post("/v1/jobs/retry", body), 400, "VALIDATION_ERROR")


def test_a_finished_job_is_retried_and_a_queued_one_is_not(api):
    job = api.operator.enqueue()
    assert "queued" in error_of(api.operator.post(f"/v1/jobs/{job['id']}/retry"), 409, "CONFLICT")["message"]
    finish(api.platform, job["id"], "failed")
    answer = api.operator.post(f"/v1/jobs/{job['id']}/retry")
    assert (answer.status_code, answer.json()["state"], answer.json()["attempt"]) == (200, "queued", 0)


def test_a_finished_job_is_deleted_and_a_queued_one_is_not(api):
    job = api.operator.enqueue()
    error_of(api.operator("DELETE", f"/v1/jobs/{job['id']}"), 409, "CONFLICT")
    finish(api.platform, job["id"])
    answer = api.operator("DELETE", f"/v1/jobs/{job['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    error_of(api.viewer.get(f"/v1/jobs/{job['id']}"), 404, "NOT_FOUND")
    error_of(api.operator("DELETE", f"/v1/jobs/{job['id']}"), 404, "NOT_FOUND")


def test_a_verb_on_what_is_not_there_is_404_and_on_what_is_no_id_400(api):
    for verb in ("cancel", "retry"):
        error_of(api.operator.post(f"/v1/jobs/{new_id()}/{verb}"), 404, "NOT_FOUND")
        error_of(api.operator.post(f"/v1/jobs/seven/{verb}"), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("nested", [True, False])
def test_a_verb_by_filter_counts_first_and_then_does_it(api, nested):
    for _ in range(3):
        api.operator.enqueue(queue="mail")
    kept = api.operator.enqueue()

    def cancel(dry_run):
        chosen = {"state": ["queued"], "queue": "mail", "since": "1h"}
        body = ({"filter": chosen} if nested else chosen) | {"dry_run": dry_run}
        return api.operator.post("/v1/jobs/cancel", body).json()

    assert cancel(dry_run=True) == {"matched": 3, "changed": 0, "dry_run": True, "complete": True}
    assert len(api.viewer.get("/v1/jobs?state=cancelled").json()["items"]) == 0
    assert cancel(dry_run=False) == {"matched": 3, "changed": 3, "dry_run": False, "complete": True}
    assert cancel(dry_run=False) == {"matched": 0, "changed": 0, "dry_run": False, "complete": True}
    assert api.viewer.get(f"/v1/jobs/{kept['id']}").json()["state"] == "queued"


def test_retry_and_delete_by_filter_move_what_has_ended(api):
    ids = [api.operator.enqueue()["id"] for _ in range(3)]
    for job in ids[:2]:
        finish(api.platform, job, "failed")
    answer = api.operator.post("/v1/jobs/retry", {"filter": {"state": "failed"}, "limit": 1})
    assert answer.json() == {"matched": 1, "changed": 1, "dry_run": False, "complete": False}
    answer = api.operator.post("/v1/jobs/delete", {"filter": {"name": "build_report"}})
    assert answer.json() == {"matched": 1, "changed": 1, "dry_run": False, "complete": True}
    assert {job["id"] for job in api.viewer.get("/v1/jobs").json()["items"]} == {ids[0], ids[2]}


def test_an_empty_filter_counts_but_does_not_move_everything(api):
    api.operator.enqueue()
    error_of(api.operator.post("/v1/jobs/cancel", {}), 400, "VALIDATION_ERROR")
    error_of(api.operator.post("/v1/jobs/cancel", {"filter": {}}), 400, "VALIDATION_ERROR")
    assert api.operator.post("/v1/jobs/cancel", {"filter": {}, "dry_run": True}).json()["matched"] == 1


@pytest.mark.parametrize("empty", [{"queue": None}, {"state": []}, {"search": None, "tag": None}])
@pytest.mark.parametrize("nested", [True, False])
def test_a_filter_of_nothing_but_null_does_not_match_everything(api, empty, nested):
    job = api.operator.enqueue()
    error = error_of(
        api.operator.post("/v1/jobs/cancel", {"filter": empty} if nested else empty), 400, "VALIDATION_ERROR"
    )
    assert set(error["fields"]) == {f"filter.{name}" if nested else name for name in empty}
    assert api.viewer.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"


def test_a_filter_is_given_in_one_of_two_ways(api):
    body = {"filter": {"state": "failed"}, "queue": "mail", "dry_run": True}
    answer = api.operator.post("/v1/jobs/cancel", body)
    assert "give filter or queue, not both" in error_of(answer, 400, "VALIDATION_ERROR")["message"]


def test_a_whole_number_may_have_a_fraction_of_zero(api):
    body = b'{"filter": {"state": "failed"}, "dry_run": true, "limit": 7.0}'
    answer = api.operator(
        "POST", "/v1/jobs/cancel", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
    assert api.operator.enqueue(priority=5.0)["priority"] == 5


def test_a_bad_filter_is_named(api):
    for body, field in [
        ({"filter": {"stat": "failed"}}, "filter.stat"),
        ({"filter": {"state": "done"}}, "filter.state[0]"),
        ({"filter": {"state": "failed"}, "dry_run": "yes"}, "dry_run"),
        ({"filter": {"state": "failed"}, "limit": 0}, "limit"),
        ({"filter": {"queue": "a\0"}}, "filter.queue"),
        ({"state": "failed", "dryrun": True}, "dryrun"),
    ]:
        error = error_of(api.operator.post("/v1/jobs/delete", body), 400, "VALIDATION_ERROR")
        assert set(error["fields"]) == {field}


def test_queues_are_counted_paused_and_resumed(api):
    api.operator.enqueue()
    queue = api.viewer.get("/v1/queues/reports").json()
    assert (queue["name"], queue["queued"], queue["paused"], queue["paused_at"]) == (
        "reports",
        1,
        False,
        None,
    )
    assert queue["oldest_at"].endswith("Z")
    paused = api.operator.post("/v1/queues/reports/pause").json()
    assert paused["paused"]
    assert paused["paused_at"].endswith("Z")
    listed = api.viewer.get("/v1/queues").json()
    assert [(one["name"], one["paused"]) for one in listed["items"]] == [("hooks", False), ("reports", True)]
    assert listed["next_cursor"] is None
    assert not api.operator.post("/v1/queues/reports/resume").json()["paused"]


def test_a_queue_that_is_not_there_is_404(api):
    for name in ("nowhere", "a%00b", "%F0%9F"):
        error_of(api.viewer.get(f"/v1/queues/{name}"), 404, "NOT_FOUND")
        error_of(api.operator.post(f"/v1/queues/{name}/pause"), 404, "NOT_FOUND")
        error_of(api.operator.post(f"/v1/queues/{name}/resume"), 404, "NOT_FOUND")


def test_job_types_are_listed_with_their_schema(api):
    report = api.viewer.get("/v1/job-types").json()["items"][0]
    assert (report["name"], report["queue"], report["timeout"]) == ("build_report", "reports", "10m")
    assert report["schema"]["properties"]["account_id"]["type"] == "integer"
    [version] = report["versions"]
    assert (len(version["digest"]), version["workers"], version["is_current"]) == (16, 0, True)


def test_workers_that_hold_a_lease_are_listed(api):
    assert api.viewer.get("/v1/workers").json() == {"items": [], "next_cursor": None}
    card = WorkerCard(new_id(), "stage", 12, ("reports",), ("build_report",), 8, 64)
    api.platform.workers.register(card)
    (worker,) = api.viewer.get("/v1/workers").json()["items"]
    assert (worker["id"], worker["hostname"], worker["running"]) == (str(card.id), "stage", 0)
    assert worker["queues"] == ["reports"]
    assert worker["draining_since"] is None
