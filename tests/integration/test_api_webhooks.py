"""Webhooks over HTTP: what is signed is taken in once, and nothing else is."""

import hashlib
import hmac
import json

import pytest

from callboard.jobs.webhooks.intake import source_request
from tests.integration.api_client import SECRET, api_in_process, error_of

SHARED = "it's a secret to everybody"


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        source = {"name": "forge", "scheme": "github", "job": "take_webhook", "secret": SHARED}
        platform.intake(SECRET).create(source_request(source))
        yield api


def deliver(api, payload, *, delivery="d-1", event="push", secret=SHARED, source="forge"):
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest(),
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": event,
    }
    return api.anonymous("POST", f"/webhooks/{source}", content=raw, headers=headers)


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


def test_what_is_signed_but_no_use_is_refused(api):
    for raw in (b"", b"{", b'{"x": NaN}', b'{"x": "\\u0000"}', b"[" * 5000):
        error_of(deliver(api, raw), 400, "VALIDATION_ERROR")
    error_of(deliver(api, {}, delivery=""), 400, "VALIDATION_ERROR")
    assert deliver(api, {}).json()["duplicate"] is False


def test_a_source_that_is_not_there_is_404(api):
    for source in ("nobody", "a%00b", "%FF"):
        error_of(deliver(api, {}, source=source), 404, "NOT_FOUND")
