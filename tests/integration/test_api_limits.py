"""Limits of queues over HTTP."""

import pytest

from tests.integration.api_client import api_in_process, error_of

NONE = {"concurrency": None, "rate": None, "key_concurrency": None, "key_rate": None}


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def put(caller, body, queue="reports"):
    return caller("PUT", f"/v1/queues/{queue}/limits", json=body)


def test_limits_are_replaced_as_a_whole_and_shown(api):
    api.operator.enqueue()
    assert api.viewer.get("/v1/queues/reports").json()["limits"] == NONE
    answer = put(api.operator, {"concurrency": 3, "rate": "100/60s", "key_rate": "5/s"})
    assert answer.status_code == 200
    assert answer.json()["limits"] == NONE | {"concurrency": 3, "rate": "100/1m", "key_rate": "5/1s"}
    put(api.operator, {"key_concurrency": 2, "rate": None})
    shown = api.viewer.get("/v1/queues/reports").json()
    assert shown["limits"] == NONE | {"key_concurrency": 2}
    assert (shown["queued"], shown["granted"], shown["started"]) == (1, 0, 0)
    assert put(api.operator, {}).json()["limits"] == NONE
    assert {one["name"]: one["limits"] for one in api.viewer.get("/v1/queues").json()["items"]}[
        "reports"
    ] == NONE


def test_a_queue_that_is_not_there_yet_can_be_limited(api):
    assert put(api.operator, {"concurrency": 1}, "tomorrow").json()["limits"]["concurrency"] == 1
    for name in ("a%20b", "1st", "x" * 101):
        error_of(put(api.operator, {}, name), 400, "VALIDATION_ERROR")
    error_of(put(api.operator, {}, "a%00b"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1_000_001}, "concurrency"),
        ({"concurrency": "3"}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"key_concurrency": 1.5}, "key_concurrency"),
        ({"rate": "often"}, "rate"),
        ({"rate": "1/2d"}, "rate"),
        ({"rate": 5}, "rate"),
        ({"key_rate": "0/1s"}, "key_rate"),
        ({"speed": 1}, "speed"),
    ],
)
def test_limits_that_do_not_fit_are_refused_by_name(api, body, field):
    error = error_of(put(api.operator, body), 400, "VALIDATION_ERROR")
    assert set(error["fields"]) == {field}


def test_a_viewer_and_a_key_of_another_queue_may_not_limit(api):
    error_of(put(api.viewer, {}), 403, "FORBIDDEN")
    error_of(put(api.caller("operator", queue="mail"), {}), 403, "FORBIDDEN")
    assert put(api.caller("operator", queue="reports"), {}).status_code == 200
