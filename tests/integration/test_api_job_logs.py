"""Over HTTP: what a job logged, page by page; results and verbs by filter as they are told there."""

import pytest
from sqlalchemy import text

from callboard.jobs.attempts.job_log_writer import JobLogWriter
from callboard.jobs.attempts.log_lines import LogLine, Portion
from callboard.jobs.model.basics.ids import new_id
from tests.integration.api_client import api_in_process, error_of, finish


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def tell(platform, job: str, epoch: int, attempt: int, *messages: str) -> None:
    lines = [LogLine(n, 1.8e9 + n, "info", "shop", text) for n, text in enumerate(messages, 1)]
    words = JobLogWriter(platform.database)
    words.write([Portion(job, epoch, attempt, lines, 0, 0)], [])
    words.close()


def test_lines_come_oldest_first_page_by_page(api):
    job = api.operator.enqueue()["id"]
    tell(api.platform, job, 1, 1, "one", "two", "three")
    tell(api.platform, job, 3, 2, "four")
    first = api.viewer.get(f"/v1/jobs/{job}/logs?limit=3").json()
    assert first["items"][0] == {
        "attempt": 1, "epoch": 1, "line": 1, "logged_at": "2027-01-15T08:00:01Z", "level": "info", "logger": "shop",
        "message": "one",
    }  # fmt: skip
    assert [line["message"] for line in first["items"]] == ["one", "two", "three"]
    last = api.viewer.get(f"/v1/jobs/{job}/logs", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert ([line["message"] for line in last["items"]], last["next_cursor"]) == (["four"], None)
    second = api.viewer.get(f"/v1/jobs/{job}/logs?attempt=2").json()
    assert [line["attempt"] for line in second["items"]] == [2]


def test_a_job_that_has_logged_nothing_has_an_empty_list(api):
    job = api.operator.enqueue()["id"]
    assert api.viewer.get(f"/v1/jobs/{job}/logs").json() == {"items": [], "next_cursor": None}


def test_no_line_is_behind_the_highest_cursor(api):
    job = api.operator.enqueue()["id"]
    tell(api.platform, job, 1, 1, "one")
    page = api.viewer.get(f"/v1/jobs/{job}/logs", params={"cursor": "_" * 11})
    assert (page.status_code, page.json()) == (200, {"items": [], "next_cursor": None})


def test_lines_are_for_those_who_may_see_the_job(api):
    job = api.operator.enqueue()["id"]
    tell(api.platform, job, 1, 1, "secret plans")
    assert api.caller("viewer", queue="reports").get(f"/v1/jobs/{job}/logs").status_code == 200
    error_of(api.caller("viewer", queue="mail").get(f"/v1/jobs/{job}/logs"), 404, "NOT_FOUND")
    error_of(api.anonymous.get(f"/v1/jobs/{job}/logs"), 401, "UNAUTHORIZED")
    error_of(api.viewer.get(f"/v1/jobs/{new_id()}/logs"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=201", "limit"), ("attempt=0", "attempt"), ("attempt=3000000000", "attempt"),
        ("cursor=elsewhere", "cursor"), ("attempt=1&attempt=2", "attempt"), ("follow=1", "follow"),
    ],
)  # fmt: skip
def test_a_question_that_does_not_fit_is_refused_by_name(api, query, field):
    job = api.operator.enqueue()["id"]
    error = error_of(api.viewer.get(f"/v1/jobs/{job}/logs?{query}"), 400, "VALIDATION_ERROR")
    assert any(field in name for name in error["fields"])


def test_a_count_that_stopped_says_so(api):
    for _ in range(3):
        api.operator.enqueue()
    asked = {"queue": "reports", "dry_run": True, "limit": 2}
    assert api.operator.post("/v1/jobs/cancel", asked).json() == {
        "matched": 2, "changed": 0, "dry_run": True, "complete": False,
    }  # fmt: skip


def test_who_waits_gets_the_result(api):
    job = api.operator.enqueue()["id"]
    with api.platform.database.transaction() as connection:
        connection.execute(text("""UPDATE callboard.jobs SET result = '{"pages": [1, null]}'"""))
    finish(api.platform, job)
    assert api.viewer.get(f"/v1/jobs/{job}?wait=30s").json()["result"] == {"pages": [1, None]}
