"""The OpenAPI document: what FastAPI knows of the routes; the bodies, the errors and the durations are put in here."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from callboard.api.http.error_responses import STATUS
from callboard.api.schemas import ErrorObject

_DESCRIPTION: Final = """\
Background jobs: create them, follow them, control them.

Every answer carries `X-Request-ID`. Every error has one shape, `{"error": {"code", "message", "fields"?, "request_id"}}`;
`code` is stable, `fields` names each value that does not fit. Durations read `30s 10m 1h 2d`, times are ISO 8601.
Lists are `{"items": [...], "next_cursor": ...}`, newest first where order matters.
"""
_TAGS: Final = [
    {"name": "jobs", "description": "Create, list, look at and wait for jobs."},
    {"name": "control", "description": "Cancel, retry and delete jobs, one or by filter."},
    {"name": "queues", "description": "Queues: what they hold, pause and resume."},
    {"name": "catalogue", "description": "Which jobs there are, and what each accepts."},
    {"name": "workers", "description": "Who runs jobs now."},
    {"name": "webhooks", "description": "Where other systems post; each request is signed."},
    {"name": "self", "description": "Who am I, is it alive, is it ready, how does it do."},
]
_MEANING: Final = {
    "VALIDATION_ERROR": "a value does not fit; `fields` names it",
    "UNAUTHORIZED": "no valid API key, or no valid signature",
    "FORBIDDEN": "the key's role or queue does not allow it",
    "NOT_FOUND": "there is no such thing, or the key may not know of it",
    "CONFLICT": "the state of things does not allow it",
    "PAYLOAD_TOO_LARGE": "the body is too large",
    "UNKNOWN_JOB": "no worker has published a job of this name",
    "INVALID_ARGUMENTS": "the arguments do not fit the job's signature",
    "UNAVAILABLE": "a service that is needed does not answer; try again after Retry-After seconds",
}
_DURATION: Final = {"type": "string", "description": "a duration such as 30s, 10m, 1h30m or 2d"}


def fails(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The errors of a route for its OpenAPI entry; those that any route has come with them."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS[code], []).append(f"`{code}`: {_MEANING[code]}")
    shown: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorObject, "description": "; ".join(by_status[status])}
        for status in sorted(by_status)
    }
    return {**shown, "default": {"model": ErrorObject, "description": "any other error"}}


def guarded(*codes: str) -> dict[int | str, dict[str, Any]]:
    """As `fails`, for a route that needs a key and the database."""
    return fails("UNAUTHORIZED", "FORBIDDEN", *codes, "UNAVAILABLE")


def document(app: FastAPI, bodies: list[type[BaseModel]]) -> dict[str, Any]:
    """The document of the app; `bodies` are the models that routes read by themselves."""
    made = get_openapi(
        title="Callboard", version="1", description=_DESCRIPTION, routes=app.routes, tags=_TAGS
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in bodies], ref_template="#/components/schemas/{model}"
    )
    schemas = {**definitions["$defs"], **made["components"]["schemas"]}
    made["components"]["schemas"] = dict(sorted(schemas.items()))
    mended: dict[str, Any] = _mend(made)
    return mended


def _mend(part: Any) -> Any:
    """A duration is not the ISO 8601 one that pydantic takes every timedelta for."""
    if isinstance(part, list):
        return [_mend(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("format") == "duration":
        return dict(_DURATION)
    return {key: _mend(value) for key, value in part.items()}
