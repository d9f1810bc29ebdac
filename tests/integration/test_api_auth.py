"""Who may do what over HTTP: keys, roles, and keys that are confined to one queue."""

import pytest

from callboard.jobs.access import auth_failures
from callboard.jobs.access.auth_failures import MOST_FAILURES, AuthFailures
from tests.integration.api_client import Caller, api_in_process, error_of, finish, until, without_redis

READS = ["/v1/jobs", "/v1/queues", "/v1/job-types", "/v1/workers", "/v1/me"]
JOB = "00000000-0000-7000-8000-000000000000"
WRITES = [
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs/batch"),
    ("POST", f"/v1/jobs/{JOB}/cancel"),
    ("POST", f"/v1/jobs/{JOB}/retry"),
    ("DELETE", f"/v1/jobs/{JOB}"),
    ("POST", "/v1/jobs/cancel"),
    ("POST", "/v1/jobs/retry"),
    ("POST", "/v1/jobs/delete"),
    ("POST", "/v1/queues/reports/pause"),
    ("POST", "/v1/queues/reports/resume"),
]


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def test_without_a_key_nothing_is_told(api):
    for method, path in [*WRITES, *[("GET", path) for path in READS]]:
        # Not even that the body is no JSON.
        answer = api.anonymous(method, path, content=b"{")
        error_of(answer, 401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_what_is_no_key_in_force_is_401(api):
    stranger = f"cb_{'a' * 12}_{'A' * 43}"
    for header in (
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer x",
        f"Bearer {'x' * 5000}",
        f"Bearer {stranger}",
    ):
        answer = api.anonymous.get("/v1/me", headers={"Authorization": header})
        error_of(answer, 401, "UNAUTHORIZED")


def test_a_revoked_key_is_soon_401(api):
    key, token = api.platform.auth.create("leaver", "viewer")
    caller = Caller(api._send, token)
    assert caller.get("/v1/me").status_code == 200
    api.platform.auth.revoke(key.name)
    until(lambda: caller.get("/v1/me").status_code == 401)
    error_of(caller.get("/v1/me"), 401, "UNAUTHORIZED")


def test_a_key_that_was_good_a_moment_ago_is_not_asked_for_again(api, monkeypatch):
    assert api.viewer.get("/v1/me").status_code == 200
    monkeypatch.setattr(api.platform.auth, "authenticate", None)
    assert api.viewer.get("/v1/me").status_code == 200


def test_a_viewer_may_not_change_anything(api):
    for method, path in WRITES:
        error = error_of(api.viewer(method, path, content=b"{"), 403, "FORBIDDEN")
        assert "operator" in error["message"]


def test_every_role_may_read(api):
    for path in READS:
        for caller in (api.viewer, api.operator, api.admin):
            assert caller.get(path).status_code == 200


def test_an_admin_may_do_what_an_operator_may(api):
    job = api.admin.enqueue()
    assert api.admin.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200


def test_me_is_the_key_that_asks(api):
    assert api.viewer.get("/v1/me").json() == {
        "name": "viewer",
        "role": "viewer",
        "queue": None,
        "job": None,
    }
    confined = api.caller("operator", queue="reports")
    assert confined.get("/v1/me").json() == {
        "name": "operator-reports",
        "role": "operator",
        "queue": "reports",
        "job": None,
    }


@pytest.fixture
def confined(api):
    return api.caller("operator", queue="reports")


def test_a_confined_key_sees_the_jobs_of_its_queue_alone(api, confined):
    mine, other = confined.enqueue(), api.operator.enqueue(queue="other")
    assert [job["id"] for job in confined.get("/v1/jobs").json()["items"]] == [mine["id"]]
    assert confined.get("/v1/jobs?queue=other").json()["items"] == []
    assert confined.get(f"/v1/jobs/{mine['id']}").status_code == 200
    error_of(confined.get(f"/v1/jobs/{other['id']}"), 404, "NOT_FOUND")


def test_a_confined_key_moves_the_jobs_of_its_queue_alone(api, confined):
    other = api.operator.enqueue(queue="other")
    error_of(confined.post(f"/v1/jobs/{other['id']}/cancel"), 404, "NOT_FOUND")
    assert confined.post("/v1/jobs/cancel", {"queue": "other"}).json()["matched"] == 0
    assert confined.post("/v1/jobs/cancel", {"state": "queued"}).json()["matched"] == 0
    finish(api.platform, other["id"])
    error_of(confined.post(f"/v1/jobs/{other['id']}/retry"), 404, "NOT_FOUND")
    error_of(confined("DELETE", f"/v1/jobs/{other['id']}"), 404, "NOT_FOUND")
    mine = confined.enqueue()
    assert confined.post(f"/v1/jobs/{mine['id']}/cancel").json()["state"] == "cancelled"


def test_a_confined_key_creates_jobs_in_its_queue_alone(api, confined):
    elsewhere = {"name": "build_report", "kwargs": {"account_id": 1}, "queue": "other"}
    error_of(confined.post("/v1/jobs", elsewhere), 403, "FORBIDDEN")
    error_of(confined.post("/v1/jobs", {"name": "take_webhook", "args": ["", "", 1]}), 403, "FORBIDDEN")
    mine = {"name": "build_report", "kwargs": {"account_id": 1}}
    error_of(confined.post("/v1/jobs/batch", {"jobs": [mine, elsewhere]}), 403, "FORBIDDEN")
    assert api.viewer.get("/v1/jobs").json()["items"] == []
    assert confined.post("/v1/jobs/batch", {"jobs": [mine, mine]}).status_code == 201


def test_a_confined_key_is_not_shown_who_holds_a_unique_key_elsewhere(api, confined):
    held = api.operator.enqueue(queue="other", unique_key="k")
    mine = {"name": "build_report", "kwargs": {"account_id": 1}}
    for path, body in (
        ("/v1/jobs", {**mine, "unique_key": "k"}),
        ("/v1/jobs/batch", {"jobs": [mine, {**mine, "unique_key": "k"}]}),
    ):
        answer = confined.post(path, body)
        error_of(answer, 409, "CONFLICT")
        assert held["id"] not in answer.text
    assert [job["id"] for job in api.viewer.get("/v1/jobs").json()["items"]] == [held["id"]]


def test_a_confined_key_knows_its_queue_alone(api, confined):
    assert [queue["name"] for queue in confined.get("/v1/queues").json()["items"]] == ["reports"]
    assert confined.get("/v1/queues/reports").status_code == 200
    assert confined.post("/v1/queues/reports/pause").status_code == 200
    error_of(confined.get("/v1/queues/hooks"), 403, "FORBIDDEN")
    error_of(confined.post("/v1/queues/hooks/pause"), 403, "FORBIDDEN")
    error_of(confined.post("/v1/queues/hooks/resume"), 403, "FORBIDDEN")


def test_a_confined_viewer_may_still_not_change_anything(api):
    viewer = api.caller("viewer", queue="reports")
    error_of(viewer.post("/v1/queues/reports/pause"), 403, "FORBIDDEN")


# ---- the limit on wrong keys ----


@pytest.fixture(autouse=True)
def _endless_window(monkeypatch):
    """No window ends within a test."""
    monkeypatch.setattr(auth_failures, "_WINDOW_SECONDS", 10**9)


def wrong(number, prefix="cb_" + "a" * 12):
    return f"{prefix}_{number:043d}"


def ask(api, token, *, client="198.51.100.7"):
    return Caller(api._send, token).get("/v1/me", headers={"X-Forwarded-For": client})


def use_up(api, **options):
    for number in range(MOST_FAILURES):
        error_of(ask(api, wrong(number), **options), 401, "UNAUTHORIZED")


def test_after_many_wrong_keys_further_ones_are_429_and_right_ones_are_answered(api):
    key, token = api.platform.auth.create("right", "viewer")
    use_up(api)
    for guess in (wrong(99), wrong(99, key.prefix), "malformed", "x" * 5000, ""):
        answer = ask(api, guess)
        error_of(answer, 429, "RATE_LIMITED")
        assert int(answer.headers["retry-after"]) >= 1
    # A key that no cache knows, and one that was just used.
    assert ask(api, token).status_code == 200
    assert api.viewer.get("/v1/me").status_code == 200
    # Where no key is given, none is guessed.
    error_of(api.anonymous.get("/v1/me"), 401, "UNAUTHORIZED")
    basic = api.anonymous.get("/v1/me", headers={"Authorization": "Basic YTpi"})
    error_of(basic, 401, "UNAUTHORIZED")
    assert api.anonymous.get("/healthz").status_code == 200


def test_malformed_keys_count_as_wrong_ones_and_missing_ones_do_not(api):
    for _ in range(3 * MOST_FAILURES):
        error_of(api.anonymous.get("/v1/me"), 401, "UNAUTHORIZED")
    for _ in range(MOST_FAILURES):
        error_of(ask(api, "x"), 401, "UNAUTHORIZED")
    error_of(ask(api, "x"), 429, "RATE_LIMITED")


def test_a_right_key_never_touches_redis(api, monkeypatch):
    monkeypatch.setattr(AuthFailures, "count", None)
    for number in range(3):
        _, token = api.platform.auth.create(f"key-{number}", "viewer")
        assert ask(api, token).status_code == 200


def test_without_redis_the_limit_is_the_same(platform):
    with without_redis(platform) as lame, api_in_process(lame) as api:
        use_up(api)
        error_of(ask(api, wrong(99)), 429, "RATE_LIMITED")
        assert api.viewer.get("/v1/me").status_code == 200


def test_behind_a_trusted_proxy_each_client_has_its_own_limit(platform):
    with api_in_process(platform, trusted_proxies=["127.0.0.0/8"]) as api:
        use_up(api, client="198.51.100.7")
        error_of(ask(api, wrong(99), client="198.51.100.7"), 429, "RATE_LIMITED")
        error_of(ask(api, wrong(99), client="198.51.100.8"), 401, "UNAUTHORIZED")


def test_without_a_trusted_proxy_a_header_does_not_change_the_address(api):
    for number in range(MOST_FAILURES):
        error_of(ask(api, wrong(number), client=f"198.51.100.{number}"), 401, "UNAUTHORIZED")
    error_of(ask(api, wrong(99), client="203.0.113.9"), 429, "RATE_LIMITED")
