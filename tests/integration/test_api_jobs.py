"""Jobs over HTTP: create, list, look at."""

import pytest

from tests.integration.api_client import api_in_process, error_of


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def test_a_created_job_is_answered_as_the_job_object(api):
    answer = api.operator.post("/v1/jobs", {"name": "build_report", "kwargs": {"account_id": 7}, "tags": ["a"]})
    assert answer.status_code == 201
    print(answer.json())
    print(answer.headers)
    print(api.viewer.get("/v1/queues").json())
    print(api.viewer.get("/v1/jobs?stat=1").json())
    print(api.viewer.get("/v1/nothing").json(), api.viewer("PATCH", "/v1/jobs/x").headers)
    print(api.anonymous.get("/metrics").text[-4000:])
