"""Webhook deliveries over HTTP: listed by page, shown, and hidden from restricted keys."""

import pytest

from callboard.jobs.webhooks.delivery import Incoming
from callboard.jobs.webhooks.intake import source_request
from callboard.jobs.webhooks.schemes import SCHEMES
from tests.integration.api_client import SECRET, api_in_process, error_of

SHARED = "it's a secret to everybody"
PATH = "/v1/webhook-deliveries"


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


@pytest.fixture
def accepted(platform, api):
    """Three deliveries of the source `forge`; the id of the second was used again with another body."""
    intake = platform.intake(SECRET)
    source = {"name": "forge", "scheme": "github", "job": "take_webhook", "secret": SHARED}
    intake.create(source_request(source))

    def send(delivery, body):
        headers = {
            **SCHEMES["github"].sign(SHARED, body),
            "x-github-event": "push",
            "x-github-delivery": delivery,
        }
        return intake.receive(Incoming("forge", headers, body))

    made = [send(f"d-{n}", b"{}") for n in range(3)]
    send("d-1", b"[]")
    return made


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["items"]]


def test_a_delivery_is_shown_with_its_job_and_its_mismatches(api, accepted):
    shown = api.viewer.get(f"{PATH}/{accepted[1].delivery_id}").json()
    (listed,) = api.viewer.get(PATH, params={"mismatched": "true"}).json()["items"]
    assert shown == listed
    assert shown["received_at"].endswith("Z")
    assert shown["mismatched_at"] > shown["received_at"]
    assert {**shown, "received_at": 0, "mismatched_at": 0} == {
        "id": str(accepted[1].delivery_id),
        "source": "forge",
        "external_id": "d-1",
        "event": "push",
        "received_at": 0,
        "body_sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "job_id": str(accepted[1].job_ids[0]),
        "mismatch_count": 1,
        "mismatched_at": 0,
        "kept_bytes": None,
    }


def test_deliveries_are_listed_by_page_newest_first(api, accepted):
    newest_first = [str(each.delivery_id) for each in reversed(accepted)]
    assert ids(api.viewer.get(PATH)) == newest_first
    assert ids(api.viewer.get(PATH, params={"source": "forge", "limit": 200})) == newest_first
    first = api.viewer.get(PATH, params={"limit": 2})
    assert ids(first) == newest_first[:2]
    cursor = first.json()["next_cursor"]
    second = api.viewer.get(PATH, params={"limit": 2, "cursor": cursor})
    assert (ids(second), second.json()["next_cursor"]) == (newest_first[2:], None)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?source=nobody", 404, "NOT_FOUND"),
        ("?source=a%00b", 400, "VALIDATION_ERROR"),
        ("?limit=201", 400, "VALIDATION_ERROR"),
        ("?limit=0", 400, "VALIDATION_ERROR"),
        ("?cursor=nonsense", 400, "VALIDATION_ERROR"),
        ("?mismatched=maybe", 400, "VALIDATION_ERROR"),
        ("?state=failed", 400, "VALIDATION_ERROR"),
        ("?limit=1&limit=2", 400, "VALIDATION_ERROR"),
        ("/nonsense", 400, "VALIDATION_ERROR"),
        ("/01a223cf-0cea-7164-b077-c4e5379c191c", 404, "NOT_FOUND"),
    ],
)
def test_a_bad_query_is_refused_by_name(api, query, status, code):
    error_of(api.viewer.get(PATH + query), status, code)


def test_a_kept_body_is_for_operators_and_never_for_a_browser_to_show(api, platform):
    intake = platform.intake(SECRET)
    source = {"name": "own", "scheme": "github", "job": "take_webhook", "secret": SHARED}
    intake.create(source_request(source))
    body = b"<script>alert(1)</script>"
    headers = {**SCHEMES["github"].sign(SHARED, body), "x-github-event": "push", "x-github-delivery": "d-9"}
    made = intake.receive(Incoming("own", headers, body))
    path = f"{PATH}/{made.delivery_id}/body"
    answer = api.operator("GET", path)
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="delivery-{made.delivery_id}.bin"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert api.viewer.get(f"{PATH}/{made.delivery_id}").json()["kept_bytes"] == len(body)
    error_of(api.viewer.get(path), 403, "FORBIDDEN")
    error_of(api.anonymous.get(path), 401, "UNAUTHORIZED")
    error_of(api.caller("admin", queue="hooks").get(path), 403, "FORBIDDEN")


def test_a_body_that_is_not_kept_is_404(api, accepted):
    error_of(api.operator("GET", f"{PATH}/{accepted[0].delivery_id}/body"), 404, "NOT_FOUND")


def test_a_restricted_key_sees_no_deliveries(api, accepted):
    restricted = api.caller("admin", queue="hooks")
    for path in (PATH, f"{PATH}/{accepted[0].delivery_id}"):
        error_of(restricted.get(path), 403, "FORBIDDEN")
        error_of(api.anonymous.get(path), 401, "UNAUTHORIZED")
