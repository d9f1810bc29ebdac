"""The format and the compression of a scrape are those that the scraper asks for."""

import gzip

import pytest
from prometheus_client import CollectorRegistry, Counter

from callboard.config.exposition import expose

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    Counter("seen_total", "Seen.", registry=registry).inc()
    return registry


@pytest.mark.parametrize(
    ("accept", "is_openmetrics"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=9.9.9", True),
        ("text/plain, application/openmetrics-text;q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=high, text/plain", False),
        ("", False),
        ("*/*", False),
        ("text/html", False),
        (";;;,,,=;q==", False),
        ("," * 1_000_000, False),
    ],
)
def test_openmetrics_is_served_to_a_client_that_prefers_it(registry, accept, is_openmetrics):
    found = expose(registry, accept=accept, accept_encoding="")
    kind = "application/openmetrics-text; version=1.0.0" if is_openmetrics else "text/plain; version=0.0.4"
    assert found.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert found.body.endswith(b"# EOF\n") == is_openmetrics


@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("identity", False),
        ("", False),
        ("xgzip", False),
    ],
)
def test_the_body_is_compressed_for_a_client_that_accepts_it(registry, accept_encoding, is_compressed):
    plain = expose(registry, accept="", accept_encoding="").body
    found = expose(registry, accept="", accept_encoding=accept_encoding)
    assert (found.headers.get("Content-Encoding") == "gzip") == is_compressed
    assert (gzip.decompress(found.body) if is_compressed else found.body) == plain
