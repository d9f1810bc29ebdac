"""HTTP lists and cards stay as documented when a row was changed by hand."""

import pytest
from sqlalchemy import text

from callboard.api.schemas import JobObject
from tests.changed_rows import SPOILED_JOBS, change
from tests.integration.api_client import api_in_process


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


@pytest.mark.parametrize("assignment", SPOILED_JOBS)
def test_a_spoiled_job_is_answered_as_the_job_object(api, platform, assignment):
    jobs = [api.operator.enqueue()["id"] for _ in range(3)]
    change(platform, "jobs", "id = :id", assignment, id=jobs[1])
    listed = api.viewer.get("/v1/jobs").json()["items"]
    assert [job["id"] for job in listed] == jobs[::-1]
    for job in (*listed, api.viewer.get(f"/v1/jobs/{jobs[1]}").json()):
        JobObject.model_validate(job)
    assert api.viewer.get(f"/v1/jobs/{jobs[1]}/why").status_code == 200
    assert api.viewer.get("/v1/queues").status_code == 200


@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "12345-01-01"])
def test_lists_of_workers_and_deliveries_answer_with_odd_times(api, platform, time):
    api.operator.enqueue()
    with platform.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO callboard.workers (id, hostname, pid, threads, slots, started_at, lease_expires_at,"
                " queues) VALUES (gen_random_uuid(), 'h', 1, 1, 1, CAST(:odd AS timestamptz), 'infinity',"
                " ARRAY[NULL, 'a'])"
            ),
            {"odd": time},
        )
    for path in ("/v1/workers", "/v1/queues", "/v1/job-types", "/v1/jobs"):
        answer = api.viewer.get(path)
        assert answer.status_code == 200, (path, answer.text)
