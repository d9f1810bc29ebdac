"""Webhooks over HTTP: what is signed is taken in once, and nothing else is."""

import gzip
import hashlib
import hmac
import json
import socket
from urllib.parse import urlencode

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from callboard.jobs.webhooks.intake import source_request
from callboard.jobs.webhooks.schemes.standard import StandardWebhooks
from tests.integration.api_client import SECRET, api_in_process, api_on_a_port, error_of

SHARED = "it's a secret to everybody"


FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        make_source(platform)
        yield api


def make_source(platform, **options):
    source = {"name": "forge", "scheme": "github", "job": "take_webhook", "secret": SHARED, **options}
    return platform.intake(SECRET).create(source_request(source))


def signature(raw, secret=SHARED):
    return "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


def deliver(api, payload, *, delivery="d-1", event="push", secret=SHARED, source="forge", **headers):
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = {
        "X-Hub-Signature-256": signature(raw, secret),
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": event,
    }
    given = signed | {name.replace("_", "-"): value for name, value in headers.items()}
    kept = {name: value for name, value in given.items() if value is not None}
    return api.anonymous("POST", f"/webhooks/{source}", content=raw, headers=kept)


def payload_of(api, answer):
    assert answer.status_code == 202, answer.text
    (job_id,) = answer.json()["job_ids"]
    return api.viewer.get(f"/v1/jobs/{job_id}").json()["kwargs"]["payload"]


def requests_of(result):
    labels = {"source": "forge", "result": result}
    return REGISTRY.get_sample_value("callboard_webhook_requests_total", labels) or 0.0


def test_a_delivery_is_taken_in_and_becomes_a_job(api):
    answer = deliver(api, {"ref": "main"})
    assert answer.status_code == 202
    accepted = answer.json()
    assert not accepted["duplicate"]
    (job_id,) = accepted["job_ids"]
    job = api.viewer.get(f"/v1/jobs/{job_id}").json()
    assert job["kwargs"] == {"event": "push", "delivery_id": "d-1", "payload": {"ref": "main"}}
    assert (job["source"], job["source_id"]) == ("webhook", accepted["delivery_id"])


def test_a_delivery_that_comes_again_is_acknowledged_with_the_first(api):
    first, again = deliver(api, {"n": 1}), deliver(api, {"n": 1})
    assert again.status_code == 202
    assert again.json() == {**first.json(), "duplicate": True}
    assert len(api.viewer.get("/v1/jobs").json()["items"]) == 1


def test_a_handshake_makes_no_delivery(api):
    answer = deliver(api, {"zen": "x"}, event="ping")
    assert (answer.status_code, answer.json()) == (
        202,
        {"delivery_id": None, "job_ids": [], "duplicate": False},
    )


def test_what_is_not_signed_with_the_secret_is_refused_and_kept_nowhere(api):
    error_of(deliver(api, {}, secret="another secret of theirs"), 401, "UNAUTHORIZED")
    error_of(api.anonymous("POST", "/webhooks/forge", content=b"{}"), 401, "UNAUTHORIZED")
    assert api.viewer.get("/v1/jobs").json()["items"] == []


def test_a_signed_body_is_never_refused_for_its_values(api):
    for index, raw in enumerate((b"", b"{", b'{"x": NaN}', b'{"x": "\\u0000"}', b"[" * 5000)):
        assert payload_of(api, deliver(api, raw, delivery=f"odd-{index}")) is None


def test_a_signed_request_without_an_id_is_refused(api):
    error_of(deliver(api, {}, delivery=""), 400, "VALIDATION_ERROR")
    assert deliver(api, {}).json()["duplicate"] is False


def test_a_source_that_is_not_there_is_404(api):
    for source in ("nobody", "a%00b", "%FF"):
        error_of(deliver(api, {}, source=source), 404, "NOT_FOUND")


def test_a_form_as_github_sends_it_by_default_becomes_a_job(api):
    payload = {"ref": "refs/heads/main", "text": "a+b & c=d % ü \N{ROCKET}"}
    form = urlencode({"payload": json.dumps(payload)}).encode()
    answer = deliver(api, form, Content_Type=FORM)
    assert answer.status_code == 202, answer.text
    (job_id,) = answer.json()["job_ids"]
    assert api.viewer.get(f"/v1/jobs/{job_id}").json()["kwargs"]["payload"] == payload
    error_of(deliver(api, form + b" ", secret="x" * 20, Content_Type=FORM), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (b"", "exactly one field, payload"), (b"payload", "exactly one field, payload"),
        (b"a=1", "exactly one field, payload"), (b"payload={}&payload={}", "exactly one field, payload"),
        (b"payload={}&a=1", "exactly one field, payload"), (b"a=1&payload={}", "exactly one field, payload"),
        (b"{}", "exactly one field, payload"), (b"payload=", "the field payload cannot be read as JSON"),
        (b"payload=%7B", "the field payload cannot be read as JSON"), (b"payload=%FF", "the field payload cannot be read as JSON"),
        (b"payload=%5BNaN%5D", "the field payload cannot be read as JSON"),
    ],
)  # fmt: skip
def test_another_form_is_accepted_and_its_body_is_kept(api, form, said):
    with capture_logs() as logs:
        answer = deliver(api, form, Content_Type=FORM)
    assert payload_of(api, answer) is None
    (entry,) = [entry for entry in logs if entry["event"] == "webhook.body_kept"]
    assert said in entry["reason"]
    path = f"/v1/webhook-deliveries/{answer.json()['delivery_id']}/body"
    assert api.operator("GET", path).content == form


@pytest.mark.parametrize("event", ["push", "ping"])
@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"{}", {"Content_Type": "text/plain"}, 415, "content-type 'text/plain'"),
        (b"{}", {"Content_Type": "multipart/form-data; boundary=x"}, 415, "content-type 'multipart/form-data'"),
        (b"{}", {"Content_Type": "application/jsonp"}, 415, "content-type 'application/jsonp'"),
        (b"{}", {"Content_Encoding": "gzip"}, 415, "content-encoding 'gzip'"),
        (b"{}", {"Content_Encoding": "identity, br"}, 415, "content-encoding 'identity, br'"),
        (b"{}", {"X_GitHub_Delivery": None}, 400, "x-github-delivery header is missing"),
        (b"{}", {"X_GitHub_Delivery": b"\xe9"}, 400, "x-github-delivery header"),
        (b"{}", {"X_Hub_Signature_256": b"sha256=" + b"\xe9" * 64}, 401, "x-hub-signature-256 header"),
        (b"{}", {"X_Hub_Signature_256": ""}, 401, "x-hub-signature-256 header is missing"),
    ],
)  # fmt: skip
def test_a_ping_gets_the_verdict_of_a_push(api, body, headers, status, said, event):
    code = {400: "VALIDATION_ERROR", 401: "UNAUTHORIZED", 415: "UNSUPPORTED_MEDIA_TYPE"}[status]
    before = requests_of(code.lower())
    with capture_logs() as logs:
        error = error_of(deliver(api, body, event=event, **headers), status, code)
    assert said in error["message"]
    (refused,) = [entry for entry in logs if entry["event"] == "webhook.refused"]
    assert (refused["source"], refused["reason"]) == ("forge", error["message"])
    assert requests_of(code.lower()) == before + 1


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Content_Type": ""}, {"Content_Type": "application/json"},
        {"Content_Type": "Application/JSON; charset=utf-8"}, {"Content_Type": "application/vnd.x+json; charset=latin-1"},
        {"Content_Encoding": "identity"}, {"Content_Encoding": ""},
    ],
)  # fmt: skip
def test_json_in_utf_8_is_accepted_under_its_names(api, headers):
    answer = deliver(api, '{"a": "ü"}'.encode(), **headers)
    assert answer.status_code == 202, answer.text
    (job_id,) = answer.json()["job_ids"]
    assert api.viewer.get(f"/v1/jobs/{job_id}").json()["kwargs"]["payload"] == {"a": "ü"}


@pytest.mark.parametrize("event", [None, "", " "])
def test_a_request_without_an_event_is_refused_by_name(api, event):
    error = error_of(deliver(api, b"{}", event=event), 400, "VALIDATION_ERROR")
    assert error["message"] == "the x-github-event header is missing"


def test_upper_case_hex_is_the_same_signature(api):
    assert (
        deliver(api, b"{}", X_Hub_Signature_256="sha256=" + signature(b"{}")[7:].upper()).status_code == 202
    )


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("X-Hub-Signature-256", signature(b"{}"), 401), ("X-GitHub-Delivery", "d-1", 400),
        ("X-GitHub-Event", "push", 400), ("Content-Type", "application/json", 415),
        ("Content-Encoding", "identity", 415),
    ],
)  # fmt: skip
def test_a_header_that_is_given_twice_is_refused_by_name(api, name, value, status):
    given = {
        "X-Hub-Signature-256": signature(b"{}"),
        "X-GitHub-Delivery": "d-1",
        "X-GitHub-Event": "push",
        "Content-Type": "application/json",
        "Content-Encoding": "identity",
    }
    answer = api._send("POST", "/webhooks/forge", content=b"{}", headers=[*given.items(), (name, value)])
    assert answer.status_code == status
    assert f"the {name.lower()} header is given more than once" in answer.json()["error"]["message"]


def test_a_form_for_a_source_of_another_scheme_is_refused(platform, api):
    scheme = StandardWebhooks()
    secret = scheme.new_secret()
    make_source(platform, name="svix", scheme="standard-webhooks", secret=secret)
    body = b"payload=%7B%7D"
    error = error_of(
        api.anonymous("POST", "/webhooks/svix", content=body, headers={"Content-Type": FORM}),
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    )
    assert "takes JSON, not forms" in error["message"]


def test_a_body_of_more_than_the_bound_is_413_with_a_reason_in_the_log(api):
    with capture_logs() as logs:
        error_of(deliver(api, b" " * (1024 * 1024 + 1)), 413, "PAYLOAD_TOO_LARGE")
    (refused,) = [entry for entry in logs if entry["event"] == "webhook.refused"]
    assert "CALLBOARD_MAX_BODY" in refused["reason"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/webhooks/forge?x=1", 202), ("POST", "/webhooks/%66orge", 202), ("POST", "/webhooks/forge/", 404),
        ("POST", "//webhooks/forge", 404), ("POST", "/webhooks//forge", 404), ("POST", "/webhooks/Forge", 404),
        ("POST", "/webhooks/", 404), ("POST", "/webhooks", 404), ("POST", "/webhooks/forge%0a", 404),
        ("POST", "/webhooks/f%C3%B6rge", 404), ("POST", "/webhooks/%ED%A0%80", 404), ("POST", "/webhooks/" + "x" * 9_000, 404),
        ("PUT", "/webhooks/forge", 405), ("HEAD", "/webhooks/forge", 405), ("GET", "/webhooks/forge", 405),
    ],
)  # fmt: skip
def test_a_path_is_never_redirected_and_never_a_servers_error(platform, method, path, status):
    with api_on_a_port(platform) as (_, server):
        make_source(platform)
        raw = b"{}"
        head = _head(method, path, {"content-length": str(len(raw)), **_signed(raw)})
        answer = _converse(server, head + raw)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"transfer-encoding": "chunked"}, b"2\r\n{}\r\n0\r\n\r\n", 202),
        ({"content-length": "2", "expect": "100-continue"}, b"{}", 100),
        ({"content-length": "50", "content-encoding": "gzip"}, gzip.compress(b"{}"), 415),
        ({"content-length": "1000000", "content-encoding": "gzip", "expect": "100-continue"}, b"", 415),
        ({"content-length": "1000000", "content-type": "text/xml", "expect": "100-continue"}, b"", 415),
    ],
)  # fmt: skip
def test_a_body_is_read_only_if_its_headers_are_acceptable(platform, headers, body, status):
    with api_on_a_port(platform) as (_, server):
        make_source(platform)
        answer = _converse(server, _head("POST", "/webhooks/forge", {**headers, **_signed(b"{}")}) + body)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer


def test_an_unknown_source_is_404_before_its_body_is_read(platform):
    with api_on_a_port(platform) as (_, server):
        headers = {"content-length": "1000000", "expect": "100-continue"}
        answer = _converse(server, _head("POST", "/webhooks/nobody", headers))
    assert answer.startswith(b"HTTP/1.1 404 "), answer


def _signed(raw):
    return {"x-hub-signature-256": signature(raw), "x-github-delivery": "d-1", "x-github-event": "push"}


def _head(method, path, headers):
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"host": "callboard", **headers}.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def _converse(server, request):
    """What the server sends first."""
    with socket.create_connection(server.socket.getsockname()[:2], timeout=60) as connection:
        connection.sendall(request)
        return connection.recv(65_536)
