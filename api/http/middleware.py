"""The middleware around every request: id, methods, body limits, unexpected errors, log and metrics."""

import asyncio
import re
from collections.abc import Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callboard.api.http.body_budget import BodyBudget, LimitedBody
from callboard.api.http.client_address import TrustedProxies
from callboard.api.http.error_responses import error_response
from callboard.api.http.methods import KNOWN_METHODS, ROUTE_METHODS, allowed_methods
from callboard.api.http.request_metrics import UNKNOWN_ROUTE, count_request, method_label
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.ids import new_id

_ALWAYS: Final = {b"x-content-type-options": b"nosniff", b"referrer-policy": b"no-referrer"}
_NO_STORE: Final = {**_ALWAYS, b"cache-control": b"no-store"}
_WEBHOOKS: Final = "/webhooks/"
_CLOSE: Final = (b"connection", b"close")
_VALID_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,100}")
#: Monitoring requests these paths every few seconds, so their log lines have level debug.
_MONITORING_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
#: The status in logs and metrics if the client disconnected before the answer. The code is nginx's.
_DISCONNECTED: Final = 499

log = structlog.get_logger(__name__)


class RequestMiddleware:
    """The outermost middleware: the first to see a request, the last to see its response."""

    def __init__(
        self, app: ASGIApp, *, max_body: int, proxies: TrustedProxies, clock: Clock = SYSTEM
    ) -> None:
        self._app = app
        self._bodies = BodyBudget(max_body)
        #: Webhooks need no key, so their bodies never keep those with a key out.
        self._webhook_bodies = BodyBudget(max_body)
        self._proxies = proxies
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = self._clock.monotonic()
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        client_id, length, expects = _read_head(scope["headers"])
        request_id = state["request_id"] = client_id if _VALID_ID.fullmatch(client_id) else str(new_id())
        state["client"], scope["scheme"] = self._proxies.origin(scope)
        budget = self._webhook_bodies if scope["path"].startswith(_WEBHOOKS) else self._bodies
        body = LimitedBody(receive, length, budget)
        # Each route with GET also answers HEAD: the server leaves the body out.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, scope["path"], request_id)
                if expects and not body.asked:
                    # The client has not sent the body, and may send it or not.
                    message["headers"].append(_CLOSE)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                own = None if scope["method"] in ROUTE_METHODS else _own_response(scope)
                await (own or self._app)(inner, body, sending)
            except ClientDisconnect:
                status = _DISCONNECTED
            except asyncio.CancelledError:
                # The server is stopping, and its grace is over. Only the server cancels a request.
                state["error"] = "UNAVAILABLE"
                if not status:
                    message = "the server has stopped before the request was done; try again"
                    await error_response(request_id, "UNAVAILABLE", message)(scope, receive, sending)
            except Exception:
                # An unexpected error: the log gets all of it, the client gets no details.
                log.exception("http.failed", method=scope["method"], path=scope["path"][:200])
                state["error"] = "INTERNAL_ERROR"
                if not status:
                    message = f"an internal error occurred; the log has details under request_id {request_id}"
                    await error_response(request_id, "INTERNAL_ERROR", message)(scope, receive, sending)
            finally:
                body.release()
                self._record(inner, scope["method"], status, self._clock.monotonic() - started)

    @staticmethod
    def _record(scope: Scope, method: str, status: int, seconds: float) -> None:
        state = scope["state"]
        refused = state.get("refused")
        code = refused.status if refused is not None else status or _DISCONNECTED
        route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
        method = method_label(method)
        count_request(route, method, code, seconds)
        extra = {name: state[name] for name in ("error", "key", "job_id") if name in state}
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


def _read_head(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str, bool]:
    """Return x-request-id, content-length, and whether the client waits for `100 Continue`.

    A missing header is an empty text.
    """
    request_id = length = ""
    expects = False
    for name, value in headers:
        if name == b"x-request-id":
            request_id = request_id or value.decode("latin-1")
        elif name == b"content-length":
            length = length or value.decode("latin-1")
        elif name == b"expect":
            expects = True
    return request_id, length, expects


def _own_response(scope: Scope) -> Response | None:
    """Return the response to a method that no route handles itself, or None."""
    method, state = scope["method"], scope["state"]
    if method not in KNOWN_METHODS:
        state["error"] = "NOT_IMPLEMENTED"
        message = f"the server does not know the method {method[:20]}"
        return error_response(state["request_id"], "NOT_IMPLEMENTED", message)
    if method == "OPTIONS" and (allowed := allowed_methods(scope)):
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(allowed)})
    return None


def _add_headers(message: Message, path: str, request_id: str) -> None:
    is_error = message["status"] >= HTTPStatus.BAD_REQUEST
    ours = _NO_STORE if is_error or path.startswith(("/v1/", _WEBHOOKS)) else _ALWAYS
    message["headers"] = [
        *(pair for pair in message["headers"] if pair[0] not in ours),
        (b"x-request-id", request_id.encode("latin-1")),
        *ours.items(),
    ]
