"""Turn every error into one form: `{"error": {"code", "message", "fields"?, "request_id"}}` and a status."""

from collections.abc import Mapping
from typing import Final

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from callboard.api.http.methods import allowed_methods
from callboard.jobs.errors import (
    Busy,
    CallboardError,
    InvalidInput,
    NotShown,
    RateLimited,
    SchemaMismatch,
    Unavailable,
)
from callboard.jobs.outage import Outage

#: The status of each public code. An error with any other code becomes an INTERNAL_ERROR.
STATUS: Final = {
    "VALIDATION_ERROR": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "TIMEOUT": 408,
    "CONFLICT": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "UNKNOWN_JOB": 422,
    "INVALID_ARGUMENTS": 422,
    "RATE_LIMITED": 429,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
#: Extra headers of a status.
_HEADERS: Final[dict[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    # The rest of the body is not read, so the connection cannot be used again.
    413: {"Connection": "close"},
    503: {"Retry-After": "1"},
}
#: The message does not say whether the request took effect: the outage may have begun after it did.
_OUTAGE: Final = "a service that Callboard needs does not answer; try again"
_MAX_FIELDS: Final = 50
_MAX_TEXT: Final = 500

log = structlog.get_logger(__name__)
_UNAVAILABLE: Final = Outage(log, "http.unavailable")


def error_response(
    request_id: str,
    code: str,
    message: str,
    *,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the response for an error code. Its texts are cut, because they may contain what was sent."""
    error: dict[str, object] = {"code": code, "message": _cut(message)}
    if fields:
        error["fields"] = {_cut(path): _cut(fields[path]) for path in list(fields)[:_MAX_FIELDS]}
    error["request_id"] = request_id
    status = STATUS[code]
    return Response(
        orjson.dumps({"error": error}),
        status,
        headers={**_HEADERS.get(status, {}), **(headers or {})},
        media_type="application/json",
    )


def handle_errors(app: FastAPI) -> None:
    """Register the handlers for errors of routes and of the router. The middleware handles all others."""
    app.add_exception_handler(CallboardError, callboard_error)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _router_error)


async def callboard_error(request: Request, error: Exception) -> Response:
    """Return the response for a CallboardError; raise the error again if its code is not public."""
    if not isinstance(error, CallboardError) or error.code not in STATUS:
        raise error
    message = error.message
    shown = Busy | SchemaMismatch
    if isinstance(error, Unavailable) and not isinstance(error, shown) and error.__cause__ is not None:
        # Addresses and driver messages go only to the log. Those shown have neither.
        _UNAVAILABLE.failed(error.message)
        message = error.advice if isinstance(error, NotShown) else _OUTAGE
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, RateLimited) else None
    return _response(request, error.code, message, fields=error.fields, headers=headers)


async def _bad_parameters(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    fields: dict[str, str] = {}
    for problem in error.errors():
        # The first part names the place: query or path.
        name = ".".join(str(part) for part in problem["loc"][1:]) or "request"
        unknown = problem["type"] == "extra_forbidden"
        reason = "no such parameter" if unknown else str(problem["msg"]).removeprefix("Value error, ")
        fields.setdefault(name, reason)
    name, reason = next(iter(fields.items()))
    invalid = InvalidInput(f"{name}: {reason}", fields=fields)
    return _response(request, invalid.code, invalid.message, fields=invalid.fields)


async def _router_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path[:100]
    match error.status_code:
        case 404:
            return _response(request, "NOT_FOUND", f"there is nothing at {path!r}; GET /docs lists all paths")
        case 405:
            message = f"{path!r} does not support the method {request.method[:20]}"
            return _response(
                request,
                "METHOD_NOT_ALLOWED",
                message,
                headers={"Allow": ", ".join(allowed_methods(request.scope))},
            )
        case _:
            raise error


def _response(
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
    short = text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
    # A name in the message may have a lone surrogate, which UTF-8 cannot encode.
    return short.encode("utf-8", "backslashreplace").decode()
