"""What goes wrong over HTTP has one shape, and never is a 500 because of what was sent."""

import json

import pytest
import structlog

from callboard.jobs.errors import Unavailable
from callboard.jobs.outage import Outage
from tests.integration.api_client import api_in_process, error_of

HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"name": "build_report", "kwargs": {"account_id": NaN}}',
    b'{"name": "build_report", "kwargs": {"account_id": Infinity}}',
    b'{"name": "build_report", "kwargs": {"account_id": 1e999}}',
    b'{"name": "build_report", "kwargs": {"account_id": 1' + b"0" * 5000 + b"}}",
    b'{"name": "build_report", "kwargs": {"account_id": 1, "x": 1' + b"0" * 309 + b"}}",
    b'{"name": "build_report", "kwargs": {"account_id": 1, "month": "\\u0000"}}',
    b'{"name": "build_report", "kwargs": {"account_id": 1, "month": "\\ud800"}}',
    b'{"name": "build_report", "kwargs": {"account_id": 1, "\\udfff": 1}}',
    b'{"name": "build_report", "kwargs": {"account_id": 1, "x": ' + b"[" * 200 + b"]" * 200 + b"}}",
    b'{"name": "build_report", "kwargs": {"account_id": 1, "x": ' + b"[" * 20000 + b"]" * 20000 + b"}}",
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "unique_key": "a\\u0000b"}',
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "tags": ["\\u0000"]}',
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "priority": 1e3}',
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "priority": 99999999999999999999}',
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "delay": 5}',
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "delay": "999999999w"}',
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "run_at": "0001-01-01T00:00:00+14:00"}',
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "run_at": "9999-12-31T23:59:59-14:00"}',
    b'{"name": "build_report", "kwargs": {"account_id": 1}, "run_at": "2026-11-22T09:00:00"}',
    b'{"name": "\\u0000"}',
    b'{"name": ""}',
    b'{"name": 7}',
]


@pytest.fixture
def api(platform):
    with api_in_process(platform, max_body=64 * 1024) as api:
        yield api


def send(api, raw, **headers):
    return api.operator(
        "POST", "/v1/jobs", content=raw, headers={"Content-Type": "application/json", **headers}
    )


def test_an_unknown_route_is_404_and_a_wrong_method_405(api):
    error_of(api.anonymous.get("/nothing"), 404, "NOT_FOUND")
    error_of(api.anonymous.get("/v1/jobs/"), 404, "NOT_FOUND")
    answer = api.anonymous("PATCH", "/v1/jobs/7")
    error_of(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "GET, DELETE, HEAD, OPTIONS"
    error_of(api.anonymous("PUT", "/healthz"), 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("path", ["/v1/jobs/batch", "/v1/jobs/cancel", "/v1/jobs/retry", "/v1/jobs/delete"])
def test_a_path_for_many_jobs_is_not_the_path_of_one(api, path):
    for method in ("GET", "DELETE"):
        answer = api.operator(method, path)
        error_of(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "POST, OPTIONS"


def test_a_body_that_no_job_can_be_made_of_is_refused(api):
    for raw in HOSTILE:
        answer = send(api, raw)
        error = answer.json()["error"]
        given = (answer.status_code, error["code"], raw[:100])
        assert given[:2] in {(400, "VALIDATION_ERROR"), (422, "INVALID_ARGUMENTS")}, given
        assert error["message"]
        assert len(answer.content) < 2_000


def test_fields_that_are_unknown_or_come_twice_are_named(api):
    error = error_of(send(api, b'{"name": "build_report", "priorty": 1}'), 400, "VALIDATION_ERROR")
    assert set(error["fields"]) == {"priorty"}
    error = error_of(send(api, b'{"name": "a", "kwargs": {"x": 1, "x": 2}}'), 400, "VALIDATION_ERROR")
    assert error["fields"] == {"x": "given twice"}


def test_an_error_does_not_grow_with_what_was_sent(api):
    unknown = {f"{'k' * 300}{n}": 1 for n in range(100)}
    answer = send(api, json.dumps({"name": "a", **unknown}).encode())
    assert len(error_of(answer, 400, "VALIDATION_ERROR")["fields"]) == 50
    answer = send(api, json.dumps({"name": "a", "k" * 20_000: 1}).encode())
    assert len(answer.content) < 3_000


def test_a_body_that_is_not_said_to_be_json_is_refused(api):
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = send(api, b'{"name": "build_report"}', **{"Content-Type": media_type})
        assert "content-type" in error_of(answer, 415, "UNSUPPORTED_MEDIA_TYPE")["fields"]


def test_a_body_of_more_than_the_bound_is_413(api):
    large = b'{"name": "' + b"x" * 70_000 + b'"}'
    answer = send(api, large)
    error_of(answer, 413, "PAYLOAD_TOO_LARGE")
    assert answer.headers["connection"] == "close"

    def in_parts():
        yield from (large[start : start + 1000] for start in range(0, len(large), 1000))

    error_of(send(api, _async(in_parts())), 413, "PAYLOAD_TOO_LARGE")


async def _async(parts):
    for part in parts:
        yield part


@pytest.fixture
def lines(monkeypatch):
    """What the middleware and the error handlers log."""
    logger = structlog.testing.CapturingLogger()
    processors = [structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info]
    log = structlog.wrap_logger(
        logger, processors=processors, wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    monkeypatch.setattr("callboard.api.http.middleware.log", log)
    outage = Outage(log, "http.unavailable")
    monkeypatch.setattr("callboard.api.http.error_responses._UNAVAILABLE", outage)
    return logger


def logged(lines, event):
    return next(call.kwargs for call in lines.calls if call.kwargs["event"] == event)


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def test_an_outage_is_503_and_keeps_its_address_to_itself(api, monkeypatch, lines):
    away = Unavailable("Postgres does not answer at db.internal:5432/x")
    away.__cause__ = OSError()
    monkeypatch.setattr(api.platform.jobs, "page", failing(away))
    answer = api.viewer.get("/v1/jobs")
    assert "db.internal" not in str(error_of(answer, 503, "UNAVAILABLE"))
    assert int(answer.headers["retry-after"]) >= 1
    assert "db.internal" in logged(lines, "http.unavailable")["reason"]


def test_what_nobody_thought_of_is_500_and_only_the_log_knows_why(api, monkeypatch, lines):
    monkeypatch.setattr(api.platform.jobs, "page", failing(LookupError("the inside")))
    answer = api.viewer.get("/v1/jobs", headers={"X-Request-ID": "trace-7"})
    assert error_of(answer, 500, "INTERNAL_ERROR")["request_id"] == "trace-7"
    assert "inside" not in answer.text
    assert "LookupError" not in answer.text
    line = logged(lines, "http.failed")
    assert line["request_id"] == "trace-7"
    assert "LookupError: the inside" in line["exception"]


def test_a_request_leaves_one_line_with_its_route_and_who_asked(api, lines):
    api.viewer.get(f"/v1/jobs/{'7' * 32}", headers={"X-Request-ID": "trace-8"})
    line = logged(lines, "http.request")
    assert line.pop("duration_ms") > 0
    assert line == {
        "event": "http.request",
        "method": "GET",
        "route": "/v1/jobs/{id}",
        "path": f"/v1/jobs/{'7' * 32}",
        "status": 404,
        "error": "NOT_FOUND",
        "client": "127.0.0.1",
        "key": "viewer",
        "request_id": "trace-8",
    }


def test_the_line_of_a_request_that_enqueued_has_the_ids_of_both(api, lines):
    job = api.operator.enqueue()
    line = logged(lines, "http.request")
    assert line["job_id"] == job["id"]
    assert line["request_id"]


def test_a_sane_request_id_is_taken_over(api):
    for given, kept in {"trace-7": True, "a" * 101: False, "a b": False, "<x>": False, "": False}.items():
        answer = api.anonymous.get("/healthz", headers={"X-Request-ID": given})
        assert (answer.headers["x-request-id"] == given) is kept
        assert answer.headers["x-request-id"]


def test_answers_say_how_they_may_be_kept_and_read(api):
    headers = api.viewer.get("/v1/jobs").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(("trusted", "client"), [([], "127.0.0.1"), (["127.0.0.0/8"], "198.51.100.7")])
def test_the_log_names_the_client_behind_a_trusted_proxy(platform, lines, trusted, client):
    with api_in_process(platform, trusted_proxies=trusted) as api:
        api.anonymous.get("/v1/me", headers={"Forwarded": "for=198.51.100.7;proto=https"})
    assert logged(lines, "http.request")["client"] == client
