"""Build the OpenAPI document: FastAPI's own document, with request bodies, errors and durations added."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from callboard.api.http.error_responses import STATUS
from callboard.api.schemas import ErrorObject

_DESCRIPTION: Final = """\
Background jobs: create, follow and control them.

Every response has the header `X-Request-ID`. Every error has the form
`{"error": {"code", "message", "fields"?, "request_id"}}`. `code` is stable; `fields` names invalid values.
Durations are written as `30s 10m 1h 2d`, times as ISO 8601. Lists are `{"items": [...], "next_cursor": ...}`,
newest first where order matters.
"""
_TAGS: Final = [
    {"name": "jobs", "description": "Create, list, show and wait for jobs."},
    {"name": "control", "description": "Cancel, retry and delete jobs, by id or by filter."},
    {"name": "queues", "description": "List, show, pause, resume and limit queues."},
    {"name": "catalogue", "description": "The job types, and the arguments that each accepts."},
    {"name": "workers", "description": "The live workers."},
    {
        "name": "webhooks",
        "description": "Receive signed requests of other systems; list and show deliveries.",
    },
    {"name": "self", "description": "The caller's key, health, readiness and metrics."},
]
_MEANING: Final = {
    "VALIDATION_ERROR": "a value is not valid; `fields` names it",
    "UNAUTHORIZED": "no valid API key, or no valid signature",
    "FORBIDDEN": "the key's role, queue or job does not allow it",
    "NOT_FOUND": "it does not exist, or the key may not see it",
    "CONFLICT": "the current state does not allow it",
    "PAYLOAD_TOO_LARGE": "the body is too large",
    "UNSUPPORTED_MEDIA_TYPE": "the body's media type or encoding is not accepted",
    "UNKNOWN_JOB": "no worker has published a job of this name",
    "INVALID_ARGUMENTS": "the arguments do not fit the job's signature",
    "RATE_LIMITED": "too many invalid API keys from this address; try again after Retry-After seconds",
    "UNAVAILABLE": "a service that Callboard needs does not answer; try again after Retry-After seconds",
}
_DURATION: Final = {"type": "string", "description": "a duration such as 30s, 10m, 1h30m or 2d"}


def error_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for a route's error codes, and a default for all other errors."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS[code], []).append(f"`{code}`: {_MEANING[code]}")
    shown: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorObject, "description": "; ".join(by_status[status])}
        for status in sorted(by_status)
    }
    return {**shown, "default": {"model": ErrorObject, "description": "any other error"}}


def guarded_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the same as `error_responses` for a route that needs a key and the database."""
    return error_responses("UNAUTHORIZED", "FORBIDDEN", *codes, "RATE_LIMITED", "UNAVAILABLE")


def document(app: FastAPI, bodies: list[type[BaseModel]]) -> dict[str, Any]:
    """Return the app's OpenAPI document. `bodies`: the models that routes read without FastAPI."""
    result = get_openapi(
        title="Callboard", version="1", description=_DESCRIPTION, routes=app.routes, tags=_TAGS
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in bodies], ref_template="#/components/schemas/{model}"
    )
    schemas = {**definitions["$defs"], **result["components"]["schemas"]}
    result["components"]["schemas"] = dict(sorted(schemas.items()))
    corrected: dict[str, Any] = _with_our_durations(result)
    return corrected


def _with_our_durations(part: Any) -> Any:
    """Return the document with our form of durations: pydantic describes each timedelta as ISO 8601."""
    if isinstance(part, list):
        return [_with_our_durations(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("format") == "duration":
        return dict(_DURATION)
    return {key: _with_our_durations(value) for key, value in part.items()}
