"""Jobs over HTTP: create, list, look at."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.operate.listing import Jobs
from tests.integration.api_client import api_in_process, error_of, finish, without_redis

FIELDS = (
    "id name queue state priority args kwargs attempt max_attempts run_at enqueued_at started_at finished_at progress"
    " progress_note result errors tags source source_id unique_key worker_id timeout cancel_requested_at crash_count"
    " hard_timeout options limit_key solo put_off put_off_reason request_id"
)


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def test_a_created_job_is_answered_as_the_job_object(api):
    request = {"name": "build_report", "kwargs": {"account_id": 7}, "tags": ["a"], "timeout": "90.5s"}
    answer = api.operator.post("/v1/jobs", request)
    assert answer.status_code == 201
    job = answer.json()
    assert list(job) == FIELDS.split()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["queue"], job["kwargs"]) == ("queued", "reports", {"account_id": 7})
    assert (job["source"], job["source_id"], job["tags"]) == ("http", "operator", ["a"])
    assert (job["timeout"], job["priority"], job["max_attempts"]) == ("90.5s", 5, 10)
    enqueued = datetime.strptime(job["enqueued_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - enqueued) < timedelta(minutes=1)
    assert api.viewer.get(answer.headers["location"]).json() == job


def test_a_job_that_is_due_later_is_scheduled(api):
    assert api.operator.enqueue(delay="1h")["state"] == "scheduled"
    job = api.operator.enqueue(run_at="2030-01-01T00:00:00+01:00")
    assert (job["state"], job["run_at"]) == ("scheduled", "2029-12-31T23:00:00Z")


def test_the_timeout_is_the_job_types_own_unless_one_is_given(api):
    assert api.operator.enqueue()["timeout"] == "10m"
    hook = {"name": "take_webhook", "args": ["push", "1", {}]}
    assert api.operator.post("/v1/jobs", hook).json()["timeout"] is None


def test_a_unique_key_that_is_held_answers_with_its_holder(api):
    first = api.operator.enqueue(unique_key="r-7")
    again = api.operator.post(
        "/v1/jobs", {"name": "build_report", "kwargs": {"account_id": 8}, "unique_key": "r-7"}
    )
    assert again.status_code == 200
    assert again.json() == first


def test_a_unique_key_that_is_held_refuses_who_wants_to_be_refused(api):
    api.operator.enqueue(unique_key="r-7")
    request = {
        "name": "build_report",
        "kwargs": {"account_id": 8},
        "unique_key": "r-7",
        "on_conflict": "reject",
    }
    assert "r-7" in error_of(api.operator.post("/v1/jobs", request), 409, "CONFLICT")["message"]


def test_of_a_group_only_the_request_that_conflicts_fails(api):
    api.operator.enqueue(unique_key="held")
    requests = [
        {
            "name": "build_report",
            "kwargs": {"account_id": n},
            "unique_key": "held" if n % 10 == 3 else f"k-{n}",
            "on_conflict": "reject",
        }
        for n in range(40)
    ]
    with ThreadPoolExecutor(40) as threads:
        codes = list(
            threads.map(lambda request: api.operator.post("/v1/jobs", request).status_code, requests)
        )
    assert codes == [409 if n % 10 == 3 else 201 for n in range(40)]


def test_requests_with_one_unique_key_at_once_make_one_job(api):
    request = {"name": "build_report", "kwargs": {"account_id": 7}, "unique_key": "one"}
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: api.operator.post("/v1/jobs", request), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_an_unknown_job_and_arguments_that_do_not_fit_are_422(api):
    answer = api.operator.post("/v1/jobs", {"name": "build_reprot", "kwargs": {}})
    assert "build_report" in error_of(answer, 422, "UNKNOWN_JOB")["message"]
    answer = api.operator.post("/v1/jobs", {"name": "build_report", "kwargs": {"month": 3}})
    assert set(error_of(answer, 422, "INVALID_ARGUMENTS")["fields"]) == {"kwargs.account_id"}


def test_unchecked_accepts_what_no_worker_has_published(api):
    answer = api.operator.post("/v1/jobs", {"name": "tomorrows_job", "args": [1], "unchecked": True})
    assert answer.status_code == 201
    assert answer.json()["queue"] == "default"


def test_a_batch_is_accepted_in_its_order(api):
    jobs = [{"name": "build_report", "kwargs": {"account_id": n}} for n in range(1000)]
    answer = api.operator.post("/v1/jobs/batch", {"jobs": jobs})
    assert answer.status_code == 201
    assert [job["kwargs"]["account_id"] for job in answer.json()["items"]] == list(range(1000))
    assert answer.json()["next_cursor"] is None


def test_a_batch_is_accepted_whole_or_not_at_all(api):
    jobs = [{"name": "build_report", "kwargs": {"account_id": n}} for n in range(3)]
    answer = api.operator.post(
        "/v1/jobs/batch", {"jobs": [*jobs, {"name": "build_report", "kwargs": {"x": 1}}]}
    )
    assert "jobs[3].kwargs.account_id" in error_of(answer, 422, "INVALID_ARGUMENTS")["fields"]
    answer = api.operator.post("/v1/jobs/batch", {"jobs": [*jobs, {"nme": "build_report"}]})
    assert set(error_of(answer, 400, "VALIDATION_ERROR")["fields"]) == {"jobs[3].name", "jobs[3].nme"}
    error_of(api.operator.post("/v1/jobs/batch", {"jobs": jobs * 334}), 400, "VALIDATION_ERROR")
    error_of(api.operator.post("/v1/jobs/batch", {"jobs": []}), 400, "VALIDATION_ERROR")
    assert api.viewer.get("/v1/jobs").json()["items"] == []


def test_a_list_is_paged_from_the_newest_on(api):
    ids = [api.operator.enqueue()["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.viewer.get("/v1/jobs", params=parameters).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]


def test_a_list_is_filtered_by_everything_at_once_or_alone(api):
    plain = api.operator.enqueue()["id"]
    tagged = api.operator.enqueue(tags=["nightly"])["id"]
    later = api.operator.enqueue(delay="1h", kwargs={"account_id": 1, "month": "2026-100%"})["id"]
    other = api.operator.enqueue(queue="other")["id"]
    finish(api.platform, plain)

    def listed(**parameters):
        return {job["id"] for job in api.viewer.get("/v1/jobs", params=parameters).json()["items"]}

    assert listed() == {plain, tagged, later, other}
    assert listed(state="succeeded") == {plain}
    assert listed(state=["succeeded", "scheduled"]) == {plain, later}
    assert listed(queue="other") == {other}
    assert listed(name="build_report", tag="nightly") == {tagged}
    assert listed(search="100%") == {later}
    assert listed(search="2026_100") == set()
    assert listed(since="1h") == {plain, tagged, later, other}
    assert listed(until="1h") == set()
    now = datetime.now(UTC) + timedelta(seconds=1)
    assert listed(since=now.isoformat()) == set()
    assert listed(until=now.isoformat().replace("+00:00", "Z"), queue="other") == {other}
    # As those who forget to quote the + send it.
    assert api.viewer.get(f"/v1/jobs?since={now.isoformat()}").json()["items"] == []


def test_a_bad_parameter_is_named(api):
    for query, field in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("state=done", "state.0"),
        ("since=yesterday", "since"),
        ("since=2026-11-22", "since"),
        ("since=1700000000", "since"),
        ("until=0001-01-01T00:00:00%2B14:00", "until"),
        ("stat=failed", "stat"),
        ("queue=a&queue=b", "queue"),
        ("queue=", "queue"),
        ("cursor=!!", "cursor"),
        ("tag=a%00b", "tag"),
        (f"search={'x' * 201}", "search"),
    ]:
        error = error_of(api.viewer.get(f"/v1/jobs?{query}"), 400, "VALIDATION_ERROR")
        assert set(error["fields"]) == {field}


def test_what_is_not_there_is_404_and_what_is_no_id_400(api):
    error_of(api.viewer.get(f"/v1/jobs/{new_id()}"), 404, "NOT_FOUND")
    error_of(api.viewer.get("/v1/jobs/7"), 400, "VALIDATION_ERROR")


def test_a_poll_answers_at_once_when_the_job_has_ended(api):
    job = api.operator.enqueue()
    finish(api.platform, job["id"], "failed")
    assert api.viewer.get(f"/v1/jobs/{job['id']}?wait=60s").json()["state"] == "failed"


def test_a_poll_that_waits_in_vain_answers_with_the_job_as_it_stands(api):
    job = api.operator.enqueue()
    assert api.viewer.get(f"/v1/jobs/{job['id']}?wait=50ms").json() == job


def test_a_poll_waits_no_longer_than_a_minute(api):
    path = f"/v1/jobs/{api.operator.enqueue()['id']}"
    for wait in ("61s", "forever", "-1s", ""):
        error = error_of(api.viewer.get(path, params={"wait": wait}), 400, "VALIDATION_ERROR")
        assert set(error["fields"]) == {"wait"}


def test_jobs_are_accepted_while_redis_is_away(platform):
    with without_redis(platform) as lame, api_in_process(lame) as api:
        job = api.operator.enqueue()
        assert job["state"] == "queued"
        assert api.viewer.get(f"/v1/jobs/{job['id']}?wait=10ms").json() == job
        ready = api.anonymous.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            200,
            {
                "status": "degraded",
                "checks": {"database": "ok", "migrations": "ok", "redis": "unavailable"},
                "degraded": ["redis"],
            },
        )


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("error", [Unavailable("Postgres does not answer"), LookupError("a bug")])
def test_jobs_that_are_written_but_cannot_be_read_are_answered_as_accepted(api, monkeypatch, batch, error):
    """A committed job must not look like one that failed: the caller would send it again."""

    def away(*_):
        raise error

    api.operator.enqueue()
    job = {"name": "build_report", "kwargs": {"account_id": 7}, "delay": "1h"}
    with monkeypatch.context() as broken:
        broken.setattr(Jobs, "get_many", away)
        path, body = ("/v1/jobs/batch", {"jobs": [job, job]}) if batch else ("/v1/jobs", job)
        answer = api.operator.post(path, body)
    assert answer.status_code == 201
    answered = answer.json()["items"] if batch else [answer.json()]
    written = api.viewer.get("/v1/jobs?state=scheduled").json()["items"][::-1]
    assert len(written) == 1 + batch
    estimated = {"enqueued_at"}
    for shown, stored in zip(answered, written, strict=True):
        assert {name for name in stored if shown[name] != stored[name]} <= estimated


def test_a_batch_with_unique_keys_that_cannot_be_read_is_not_committed(api, monkeypatch):
    def away(*_):
        raise Unavailable("Postgres does not answer")

    job = {"name": "build_report", "kwargs": {"account_id": 7}}
    with monkeypatch.context() as broken:
        broken.setattr(Jobs, "get_many_within", away)
        answer = api.operator.post("/v1/jobs/batch", {"jobs": [job | {"unique_key": "a"}, job]})
    error_of(answer, 503, "UNAVAILABLE")
    assert api.viewer.get("/v1/jobs").json()["items"] == []


def test_a_batch_that_is_due_at_once_is_answered_without_a_read(api, monkeypatch):
    monkeypatch.setattr(Jobs, "get_many", None)
    job = {"name": "build_report", "kwargs": {"account_id": 7}}
    answer = api.operator.post("/v1/jobs/batch", {"jobs": [job, job | {"priority": 1}]})
    monkeypatch.undo()
    assert answer.status_code == 201
    assert [api.viewer.get(f"/v1/jobs/{one['id']}").json() for one in answer.json()["items"]] == (
        answer.json()["items"]
    )
