"""The header Idempotency-Key: one answer for one request, however often and by however many it is sent."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.errors import Unavailable
from callboard.jobs.idempotency import replay
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.retention.retention import RetentionSpans
from callboard.scheduler.pruner import Pruner
from tests.integration.api_client import api_in_process, api_on_a_port, error_of

REPORT = {"name": "build_report", "kwargs": {"account_id": 7}}
BATCH = {"jobs": [REPORT, {**REPORT, "kwargs": {"account_id": 8}}]}
PATHS = [("/v1/jobs", REPORT), ("/v1/jobs/batch", BATCH)]


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def send(caller, path="/v1/jobs", body=REPORT, key="k-1", **options):
    return caller.post(path, body, headers={"Idempotency-Key": key}, **options)


def age(platform, hours):
    with platform.database.transaction() as connection:
        connection.execute(
            text("UPDATE callboard.idempotency_keys SET created_at = created_at - :hours * interval '1h'"),
            {"hours": hours},
        )


def stored(platform):
    return len(platform.jobs.page(JobFilter()).items)


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_the_same_request_again_gets_the_same_answer_and_does_nothing(api, path, body):
    first = send(api.operator, path, body)
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    jobs = stored(api.platform)
    for job in api.platform.jobs.page(JobFilter()).items:
        api.platform.control.cancel(job.id)
    again = send(api.operator, path, body)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers.get("location") == first.headers.get("location")
    assert again.headers["content-type"] == "application/json"
    assert stored(api.platform) == jobs


def test_a_body_is_the_same_however_it_is_written(api):
    first = send(api.operator)
    spaced = b'{ "kwargs": {"account_id":   7}, "name": "build_report" }'
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    again = api.operator("POST", "/v1/jobs", content=spaced, headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/jobs", {**REPORT, "priority": 1}), ("/v1/jobs/batch", {"jobs": [REPORT]})]
)
def test_the_same_key_with_another_request_is_a_conflict(api, path, body):
    send(api.operator)
    error = error_of(send(api.operator, path, body), 409, "CONFLICT")
    assert "Idempotency-Key was used for another request" in error["message"]
    assert stored(api.platform) == 1


def test_each_api_key_has_its_own(api):
    one = send(api.operator)
    other = send(api.admin)
    assert (one.status_code, other.status_code) == (201, 201)
    assert one.json()["id"] != other.json()["id"]


@pytest.mark.parametrize("key", ["", "k" * 201, "a\tb", "ä".encode()])
def test_a_key_that_is_none_is_refused(api, key):
    error = error_of(send(api.operator, key=key), 400, "VALIDATION_ERROR")
    assert list(error["fields"]) == ["Idempotency-Key"]
    assert stored(api.platform) == 0
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert send(api.operator, key="k" * 200).status_code == 201
    headers = [*twice, *api.operator._headers.items()]
    error_of(api.operator._send("POST", "/v1/jobs", json=REPORT, headers=headers), 400, "VALIDATION_ERROR")


def test_a_request_that_is_refused_leaves_no_key(api):
    wrong = {"name": "build_report", "kwargs": {"account_id": "x"}}
    error_of(send(api.operator, body=wrong), 422, "INVALID_ARGUMENTS")
    error_of(send(api.operator, body={**REPORT, "name": "nothing"}), 422, "UNKNOWN_JOB")
    error_of(send(api.operator, "/v1/jobs/batch", {"jobs": [REPORT, wrong]}), 422, "INVALID_ARGUMENTS")
    assert send(api.operator).status_code == 201


def test_an_answer_is_given_again_even_if_the_job_type_is_gone(api):
    first = send(api.operator)
    with api.platform.database.transaction() as connection:
        connection.execute(text("DELETE FROM callboard.job_types"))
    api.platform.catalogue.forget()
    assert send(api.operator).json() == first.json()


def test_when_the_transaction_fails_neither_key_nor_job_is_there(api, monkeypatch):
    def away(*_):
        raise Unavailable("Postgres does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(replay.repository, "store", away)
        error_of(send(api.operator), 503, "UNAVAILABLE")
    assert stored(api.platform) == 0
    assert send(api.operator).status_code == 201


def test_after_a_day_the_key_is_free(api):
    first = send(api.operator)
    age(api.platform, 23)
    assert send(api.operator).status_code == 200
    age(api.platform, 1)
    second = send(api.operator, body={**REPORT, "priority": 1})
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]


def test_the_pruner_removes_what_is_kept_no_longer(api):
    send(api.operator)
    age(api.platform, 25)
    send(api.operator, key="k-2")
    Pruner(
        api.platform.retention, RetentionSpans(succeeded=timedelta(days=7), other=timedelta(days=7))
    ).round()
    with api.platform.database.autocommit() as connection:
        keys = connection.execute(text("SELECT key FROM callboard.idempotency_keys")).scalars().all()
    assert keys == ["k-2"]


def test_an_existing_job_is_answered_with_200_both_times(api):
    held = api.operator.enqueue(unique_key="one")
    for replayed in (None, "true"):
        answer = send(api.operator, body={**REPORT, "unique_key": "one"})
        assert (answer.status_code, answer.json()["id"]) == (200, held["id"])
        assert answer.headers.get("idempotency-replayed") == replayed


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_a_key_confined_to_a_queue_stays_confined(api, path, body):
    error_of(send(api.caller("operator", queue="other"), path, body), 403, "FORBIDDEN")
    confined = api.caller("operator", queue="reports")
    assert send(confined, path, body).status_code == 201
    held = api.operator.enqueue(unique_key="k", queue="other")
    mine = {**REPORT, "unique_key": "k"}
    keyed = mine if path == "/v1/jobs" else {"jobs": [mine]}
    error = error_of(send(confined, path, keyed, key="k-2"), 409, "CONFLICT")
    assert held["id"] not in error["message"]


def test_fifty_at_once_are_one_job_and_one_answer(platform):
    with api_on_a_port(platform) as (api, _), ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: send(api.operator), range(50)))
        assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
        assert len({answer.content for answer in answers}) == 1
        assert stored(platform) == 1


def test_fifty_at_once_with_a_key_for_a_period_are_one_job(platform):
    body = {**REPORT, "unique_key": "one", "unique_for": "1h"}
    with api_on_a_port(platform) as (api, _), ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: api.operator.post("/v1/jobs", body), range(50)))
        assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
        assert len({answer.json()["id"] for answer in answers}) == 1


def test_replacements_are_answered_with_the_job_as_it_is_now(api):
    first = api.operator.enqueue(unique_key="one", delay="1h")
    body = {
        **REPORT,
        "kwargs": {"account_id": 8},
        "unique_key": "one",
        "on_conflict": "replace",
        "limit_key": "t",
    }
    answer = api.operator.post("/v1/jobs", body)
    assert answer.status_code == 200
    job = answer.json()
    assert (job["id"], job["state"], job["kwargs"]) == (first["id"], "queued", {"account_id": 8})
    assert job["limit_key"] == "t"


def test_a_confined_key_replaces_no_job_of_another_queue(api):
    held = api.operator.enqueue(unique_key="one", delay="1h", queue="mail")
    mine = {**REPORT, "unique_key": "one", "on_conflict": "replace"}
    confined = api.caller("operator", queue="reports")
    error = error_of(confined.post("/v1/jobs", mine), 409, "CONFLICT")
    assert held["id"] not in error["message"]
    assert api.operator.get(f"/v1/jobs/{held['id']}").json() == held


def test_who_is_refused_does_not_hear_of_a_job_of_another_queue(api):
    held = api.operator.enqueue(unique_key="one", queue="mail")
    mine = {**REPORT, "unique_key": "one", "on_conflict": "reject"}
    error = error_of(api.caller("operator", queue="reports").post("/v1/jobs", mine), 409, "CONFLICT")
    assert "of another name or queue" in error["message"]
    assert held["id"] not in error["message"]


def test_every_option_of_an_enqueue_is_taken(api):
    options = {
        "unique_key": "one", "unique_for": "1h", "on_conflict": "reject", "limit_key": "t", "timeout": "5s",
        "hard_timeout": "9s", "min_backoff": "1s", "max_backoff": "1m", "max_attempts": 3, "tags": ["a"],
        "priority": 1, "expires_at": "2999-01-01T00:00:00Z", "delay": "1h", "queue": "mail",
    }  # fmt: skip
    job = api.operator.enqueue(**options)
    assert (job["limit_key"], job["timeout"], job["hard_timeout"]) == ("t", "5s", "9s")
    assert (job["options"], job["queue"], job["state"]) == (
        {"min_backoff": 1.0, "max_backoff": 60.0}, "mail", "scheduled"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unique_for": "1h"}, "unique_for needs a unique_key"),
        ({"on_conflict": "replace"}, "on_conflict=replace needs a unique_key"),
        ({"on_conflict": "explode", "unique_key": "k"}, "on_conflict"),
        ({"timeout": "9s", "hard_timeout": "8s"},
         "hard_timeout must be longer than 0s and at least as long as timeout"),
        ({"min_backoff": "2s", "max_backoff": "1s"}, "min_backoff must not be longer than max_backoff"),
        ({"unique_key": "k", "unique_for": "-1h"}, "unique_for"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(api, options, said):
    error = error_of(api.operator.post("/v1/jobs", {**REPORT, **options}), 400, "VALIDATION_ERROR")
    assert said in error["message"]
