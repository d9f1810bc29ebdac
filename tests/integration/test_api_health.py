"""For machines and for reading: alive, ready, metrics, the document and its page."""

import base64
import hashlib
import re

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from callboard.jobs.model.basics.ids import new_id
from tests.integration.api_client import api_in_process
from tests.integration.core.factories import until
from tests.samples import series


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


def test_it_is_alive(api):
    answer = api.anonymous.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_metrics_count_requests_by_route_and_never_by_path(api):
    def counted(**labels):
        families = text_string_to_metric_families(api.viewer.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "callboard_http_requests_total" and labels.items() <= sample.labels.items()
        )

    one, unknown = (
        {"route": "/v1/jobs/{id}", "method": "GET", "code": "404"},
        {"route": "(unknown)", "method": "(other)"},
    )
    before = counted(**one), counted(**unknown)
    missing = str(new_id())
    api.viewer.get(f"/v1/jobs/{missing}")
    api.viewer("BREW", f"/nowhere/{missing}")
    assert (counted(**one), counted(**unknown)) == (before[0] + 1, before[1] + 1)
    text = api.viewer.get("/metrics").text
    assert missing not in text
    assert "callboard_http_request_duration_seconds_bucket" in text


def test_metrics_need_a_viewers_key(api):
    answer = api.anonymous.get("/metrics")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")
    assert api.viewer.get("/metrics").status_code == 200


def test_metrics_are_refused_to_a_key_that_is_confined_to_a_queue(api):
    _, token = api.platform.auth.create(f"mail {new_id()}", "admin", queue="mail")
    answer = api.anonymous.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


def test_metrics_need_no_key_if_they_are_open(platform):
    with api_in_process(platform, metrics_open=True) as api:
        assert api.anonymous.get("/metrics").status_code == 200


def test_metrics_are_openmetrics_and_compressed_for_a_scraper_that_asks(api):
    plain = api.viewer.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "content-encoding" not in plain.headers
    asked = {
        "Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        "Accept-Encoding": "gzip",
    }
    answer = api.viewer.get("/metrics", headers=asked)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text.endswith("# EOF\n")
    assert {family.name for family in openmetrics.text_string_to_metric_families(answer.text)} >= {
        "callboard_build_info",
        "callboard_http_requests",
        "callboard_store_seconds",
    }


def test_calls_to_the_stores_are_measured_by_operation(api):
    api.operator.enqueue()
    wanted = {("enqueue", "postgres"), ("push", "redis"), ("statement", "postgres")}
    # A job is pushed after the answer.
    until(lambda: wanted <= set(series("callboard_store_seconds_count")))


def test_the_page_of_the_document_needs_nothing_from_elsewhere(api):
    answer = api.anonymous.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text)
    assert "innerHTML" not in answer.text
    script = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_the_document_is_served_without_a_key(api):
    answer = api.anonymous.get("/openapi.json")
    assert answer.status_code == 200
    assert "/v1/jobs" in answer.json()["paths"]
