"""The metrics of HTTP requests. Each label has few values, and no caller can add one."""

from typing import Final

from prometheus_client import Counter, Histogram

from callboard.jobs.metric_labels import Bounded

HTTP_REQUESTS: Final = Bounded(
    Counter(
        "callboard_http_requests_total",
        "Requests by route, method and status code.",
        ["route", "method", "code"],
    ),
    fixed=["method", "code"],
)
HTTP_DURATION: Final = Bounded(
    Histogram(
        "callboard_http_request_duration_seconds",
        "Seconds from the request's head to the end of the response.",
        ["route"],
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    )
)
#: The route of a request that matches no route.
UNKNOWN_ROUTE: Final = "(unknown)"
_OTHER_METHOD: Final = "(other)"
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


def method_label(method: str) -> str:
    """Return the label of a method; the methods that no route has share one."""
    return method if method in _METHODS else _OTHER_METHOD


def count_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count a request that the app answered. `method` is a label."""
    HTTP_REQUESTS.labels(route, method, str(status)).inc()
    HTTP_DURATION.labels(route).observe(seconds)


def count_refusal(status: int) -> None:
    """Count a request that was refused before the app saw it."""
    HTTP_REQUESTS.labels(UNKNOWN_ROUTE, _OTHER_METHOD, str(status)).inc()
