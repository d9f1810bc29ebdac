"""The middleware around every request: request id, body limit, unexpected errors, log line and metrics."""

import asyncio
import re
from collections.abc import MutableMapping
from functools import cache
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callboard.api.http.client_address import TrustedProxies
from callboard.api.http.error_responses import error_response
from callboard.jobs.errors import PayloadTooLarge
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.ids import new_id

HTTP_REQUESTS: Final = Counter(
    "callboard_http_requests_total", "Requests by route, method and status code.", ["route", "method", "code"]
)
HTTP_DURATION: Final = Histogram(
    "callboard_http_request_duration_seconds",
    "Seconds from the request's head to the end of the response.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
#: The route label of a request that matches no route: paths as labels would be unbounded.
UNKNOWN_ROUTE: Final = "(unknown)"
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_ALWAYS: Final = {b"x-content-type-options": b"nosniff", b"referrer-policy": b"no-referrer"}
_NO_STORE: Final = {**_ALWAYS, b"cache-control": b"no-store"}
_VALID_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,100}")
#: At most this many bytes of a too large body are read and dropped, because many clients read the response
#: only after they have sent the body.
_MAX_DROPPED: Final = 16 * 1024 * 1024
_DROP_SECONDS: Final = 2.0
#: Monitoring requests these paths every few seconds, so their log lines have level debug.
_MONITORING_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.get_logger(__name__)


class RequestMiddleware:
    """The outermost middleware: the first to see a request, the last to see its response."""

    def __init__(
        self, app: ASGIApp, *, max_body: int, proxies: TrustedProxies, clock: Clock = SYSTEM
    ) -> None:
        self._app = app
        self._max_body = max_body
        self._proxies = proxies
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = self._clock.monotonic()
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        client_id, length = _request_id_and_length(scope)
        request_id = state["request_id"] = client_id if _VALID_ID.fullmatch(client_id) else str(new_id())
        state["client"], scope["scheme"] = self._proxies.origin(scope)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, scope["path"], request_id)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, limit_body(length, receive, self._max_body), sending)
            except Exception:
                # An unexpected error: the log gets all of it, the client gets no details.
                log.exception("http.failed", method=scope["method"], path=scope["path"][:200])
                if status:
                    raise
                message = f"an internal error occurred; the log has details under request_id {request_id}"
                state["error"] = "INTERNAL_ERROR"
                await error_response(request_id, "INTERNAL_ERROR", message)(scope, receive, sending)
            finally:
                self._record(scope, status, self._clock.monotonic() - started)

    @staticmethod
    def _record(scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        # 499, the code that nginx uses: the client disconnected before the response.
        code = status or 499
        requests, duration = _series(route, method, code)
        requests.inc()
        duration.observe(seconds)
        extra = {name: scope["state"][name] for name in ("error", "key") if name in scope["state"]}
        (log.debug if route in _MONITORING_PATHS else log.info)(
            "http.request",
            method=method,
            route=route,
            path=scope["path"][:200],
            status=code,
            duration_ms=round(seconds * 1000, 2),
            client=scope["state"]["client"],
            **extra,
        )


@cache
def _series(route: str, method: str, code: int) -> tuple[Counter, Histogram]:
    """Return the metric series of a request. The cache is bounded, as the label values are."""
    return HTTP_REQUESTS.labels(route, method, str(code)), HTTP_DURATION.labels(route)


def _request_id_and_length(scope: Scope) -> tuple[str, str]:
    """Return the first x-request-id and the first content-length header, each empty if it is missing."""
    request_id = length = ""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            request_id = request_id or value.decode("latin-1")
        elif name == b"content-length":
            length = length or value.decode("latin-1")
    return request_id, length


def limit_body(declared: str, receive: Receive, limit: int) -> Receive:
    """Return a `receive` that raises PayloadTooLarge if more than `limit` bytes are declared or received.

    declared: the content-length header, or an empty text
    """
    length = int(declared) if declared.isdecimal() and len(declared) < 19 else 0  # noqa: PLR2004 - an int64
    received = 0

    async def receiving() -> Message:
        nonlocal received
        if received == 0 and length > limit:
            await _drop(receive)
            raise _too_large(limit)
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            await _drop(receive)
            raise _too_large(limit)
        return message

    return receiving


async def _drop(receive: Receive) -> None:
    dropped = 0
    try:
        async with asyncio.timeout(_DROP_SECONDS):
            while dropped < _MAX_DROPPED:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is larger than {limit:,} bytes (CALLBOARD_MAX_BODY)")


def _add_headers(message: Message, path: str, request_id: str) -> None:
    is_error = message["status"] >= 400  # noqa: PLR2004 - the first error status
    ours = _NO_STORE if is_error or path.startswith(("/v1/", "/webhooks/")) else _ALWAYS
    message["headers"] = [
        *(pair for pair in message["headers"] if pair[0] not in ours),
        (b"x-request-id", request_id.encode("latin-1")),
        *ours.items(),
    ]
