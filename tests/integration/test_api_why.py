"""GET /v1/jobs/{id}/why."""

import pytest

from callboard.jobs.model.basics.ids import new_id
from tests.integration.api_client import api_in_process, error_of, finish


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def test_the_answer_has_the_state_and_the_reasons_in_their_order(api):
    job = api.operator.enqueue()
    api.operator.post("/v1/queues/reports/pause")
    answer = api.viewer.get(f"/v1/jobs/{job['id']}/why")
    assert answer.status_code == 200
    assert set(answer.json()) == {"job_id", "state", "reasons"}
    assert (answer.json()["job_id"], answer.json()["state"]) == (job["id"], "queued")
    reasons = answer.json()["reasons"]
    assert [reason["code"] for reason in reasons] == ["queue_paused", "no_worker", "no_scheduler"]
    assert all(set(reason) == {"code", "message", "data"} for reason in reasons)
    assert reasons[0]["message"].endswith("; resume it: callboard queue resume reports")
    assert reasons[0]["data"]["paused_at"].endswith("Z")


def test_a_finished_job_has_one_reason(api):
    job = api.operator.enqueue()
    finish(api.platform, job["id"])
    (reason,) = api.viewer.get(f"/v1/jobs/{job['id']}/why").json()["reasons"]
    assert (reason["code"], reason["data"]["state"]) == ("finished", "succeeded")


def test_what_is_not_there_is_404_what_is_no_id_400_and_who_has_no_key_401(api):
    error_of(api.viewer.get(f"/v1/jobs/{new_id()}/why"), 404, "NOT_FOUND")
    error_of(api.viewer.get("/v1/jobs/seven/why"), 400, "VALIDATION_ERROR")
    error_of(api.anonymous.get(f"/v1/jobs/{new_id()}/why"), 401, "UNAUTHORIZED")


def test_a_key_of_another_queue_does_not_learn_of_the_job(api):
    job = api.operator.enqueue()
    path = f"/v1/jobs/{job['id']}/why"
    error_of(api.caller("viewer", queue="mail").get(path), 404, "NOT_FOUND")
    assert api.caller("viewer", queue="reports").get(path).status_code == 200
