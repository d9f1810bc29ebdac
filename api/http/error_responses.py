"""Every error as one shape, `{"error": {"code", "message", "fields"?, "request_id"}}`, with the status of its code."""

from collections.abc import Mapping
from typing import Final

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from callboard.jobs.errors import CallboardError, InvalidInput, Unavailable

#: The status of each code that may be told; an error of any other code is an INTERNAL_ERROR.
STATUS: Final = {
    "VALIDATION_ERROR": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CONFLICT": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNKNOWN_JOB": 422,
    "INVALID_ARGUMENTS": 422,
    "INTERNAL_ERROR": 500,
    "UNAVAILABLE": 503,
}
#: What goes with a status.
_HEADERS: Final[dict[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    # The rest of such a body is not read; the connection cannot be used again.
    413: {"Connection": "close"},
    503: {"Retry-After": "1"},
}
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: What was under way when it went away may have been done, so nothing is said of that.
_OUTAGE: Final = "a service that Callboard needs does not answer; try again"
_MOST_FIELDS: Final = 50
_LONGEST: Final = 500

log = structlog.get_logger(__name__)


def error_response(
    request_id: str,
    code: str,
    message: str,
    *,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for a code; its text is cut short, for it may hold what was sent."""
    error: dict[str, object] = {"code": code, "message": _cut(message)}
    if fields:
        error["fields"] = {_cut(path): _cut(fields[path]) for path in list(fields)[:_MOST_FIELDS]}
    error["request_id"] = request_id
    status = STATUS[code]
    return Response(
        orjson.dumps({"error": error}),
        status,
        headers={**_HEADERS.get(status, {}), **(headers or {})},
        media_type="application/json",
    )


def handle_errors(app: FastAPI) -> None:
    """Have the app answer what is raised inside routes and by the router. The rest is left to the middleware."""
    app.add_exception_handler(CallboardError, callboard_error)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _router_error)


async def callboard_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, CallboardError) or error.code not in STATUS:
        raise error
    message = error.message
    if isinstance(error, Unavailable) and error.__cause__ is not None:
        # Addresses and drivers' words are for the log alone.
        log.warning("http.unavailable", reason=error.message)
        message = _OUTAGE
    return _answer(request, error.code, message, fields=error.fields)


async def _bad_parameters(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    fields: dict[str, str] = {}
    for problem in error.errors():
        # The first part says where it was looked for: query or path.
        name = ".".join(str(part) for part in problem["loc"][1:]) or "request"
        unknown = problem["type"] == "extra_forbidden"
        reason = "no such parameter" if unknown else str(problem["msg"]).removeprefix("Value error, ")
        fields.setdefault(name, reason)
    name, reason = next(iter(fields.items()))
    refused = InvalidInput(f"{name}: {reason}", fields=fields)
    return _answer(request, refused.code, refused.message, fields=refused.fields)


async def _router_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path[:100]
    match error.status_code:
        case 404:
            return _answer(
                request, "NOT_FOUND", f"there is nothing at {path!r}; GET /docs lists what there is"
            )
        case 405:
            message = f"{path!r} does not take {request.method[:20]}"
            return _answer(request, "METHOD_NOT_ALLOWED", message, headers={"Allow": _allowed(request)})
        case _:
            raise error


def _allowed(request: Request) -> str:
    """Every method that the path takes; the router itself stops at the first route it finds."""
    routes = request.app.router.routes
    return ", ".join(
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    )


def _answer(
    request: Request,
    code: str,
    message: str,
    *,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    request.state.error = code
    return error_response(request.state.request_id, code, message, fields=fields, headers=headers)


def _cut(text: str) -> str:
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    # A lone surrogate, which a message may have taken over from a name, is not UTF-8.
    return short.encode("utf-8", "backslashreplace").decode()
