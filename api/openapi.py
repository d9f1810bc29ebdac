"""Build the OpenAPI document: FastAPI's own document, with bodies, errors, headers and security added."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from callboard.api.http.error_responses import STATUS
from callboard.api.openapi_parts import HEADERS, error_component, header_references, tidy, tidy_schemas
from callboard.api.schemas import ErrorObject

_DESCRIPTION: Final = """\
Background jobs: create, follow and control them.

Every response has the header `X-Request-ID`. Every error has the form
`{"error": {"code", "message", "fields"?, "request_id"}}`. `code` is stable; `fields` names invalid values.
Durations are written as `30s 10m 1h 2d`, times as ISO 8601. Lists are `{"items": [...], "next_cursor": ...}`,
newest first where order matters.

A request that is not valid HTTP gets 400, 431 (its head is too large), 501 or 505 before a route sees it.
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
    {"name": "service", "description": "The caller's key, health, readiness and metrics."},
]
#: What each code of STATUS means. A new code needs a line here; the routes that answer it name it.
_MEANING: Final = {
    "VALIDATION_ERROR": "a value is not valid; `fields` names it",
    "UNAUTHORIZED": "no valid API key, or no valid signature",
    "FORBIDDEN": "the key's role, queue or job does not allow it",
    "NOT_FOUND": "it does not exist, or the key may not see it",
    "METHOD_NOT_ALLOWED": "the path does not support the method; the header Allow names those that it does",
    "TIMEOUT": "the body came too slowly",
    "CONFLICT": "the current state does not allow it",
    "PAYLOAD_TOO_LARGE": "the body is too large",
    "UNSUPPORTED_MEDIA_TYPE": "the body's media type or encoding is not accepted",
    "UNKNOWN_JOB": "no worker has published a job of this name",
    "INVALID_ARGUMENTS": "the arguments do not fit the job's signature",
    "RATE_LIMITED": "too many invalid API keys from this address; try again after Retry-After seconds",
    "INTERNAL_ERROR": "the server has a defect; its log has details under the request id",
    "NOT_IMPLEMENTED": "the server does not know the method or the transfer coding",
    "UNAVAILABLE": "a service that Callboard needs does not answer; try again after Retry-After seconds",
}
#: Any request can fail with these.
_ALWAYS: Final = ("TIMEOUT", "INTERNAL_ERROR")
#: No route names these: the server answers them for any path.
_OF_NO_ROUTE: Final = ("METHOD_NOT_ALLOWED", "NOT_IMPLEMENTED")
#: The errors of a route that reads a body.
BODY_ERRORS: Final = ("PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
_LICENSE: Final = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
_REFERENCE: Final = "#/components/responses/"


def error_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for a route's error codes, and a default for all other errors.

    They have no content yet: `document` writes each shared response once and refers to it.
    """
    statuses = sorted({STATUS[code] for code in (*codes, *_ALWAYS)})
    return {status: {"description": ""} for status in statuses} | {"default": {"description": ""}}


def guarded_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the same as `error_responses` for a route that needs a key and the database."""
    return error_responses("UNAUTHORIZED", "FORBIDDEN", *codes, "RATE_LIMITED", "UNAVAILABLE")


def document(app: FastAPI, bodies: list[type[BaseModel]]) -> dict[str, Any]:
    """Return the app's OpenAPI document. `bodies`: the models that routes read without FastAPI."""
    result = get_openapi(
        title="Callboard",
        version="1",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
        servers=[{"url": "/", "description": "This server."}],
        license_info=_LICENSE,
    )
    models: list[type[BaseModel]] = [*bodies, ErrorObject]
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    for item in result["paths"].values():
        for operation in item.values():
            # Without this, the operation would look as if its author had forgotten it.
            operation.setdefault("security", [])
            operation["responses"] = {
                status: _response(status, response) for status, response in operation["responses"].items()
            }
    components = result["components"]
    schemas = {**definitions["$defs"], **components["schemas"]}
    result["components"] = {
        "schemas": tidy_schemas(schemas),
        "responses": _error_components(),
        "headers": HEADERS,
        "securitySchemes": components["securitySchemes"],
    }
    result["paths"] = tidy(result["paths"])
    return result


def _response(status: str, response: dict[str, Any]) -> dict[str, Any]:
    """Return an operation's response with its headers, or a reference if it is a shared error."""
    if status[0] in "23" or "content" in response:
        return {**response, "headers": header_references("X-Request-ID") | response.get("headers", {})}
    return {"$ref": _REFERENCE + _error_name(status)}


def _error_name(status: str) -> str:
    """Return the name of the shared response: that of its code, in CamelCase."""
    codes = [code for code in _MEANING if str(STATUS.get(code)) == status]
    if status == "default":
        return "OtherError"
    return "JobRefused" if len(codes) > 1 else codes[0].title().replace("_", "")


def _error_components() -> dict[str, Any]:
    by_status: dict[str, dict[str, str]] = {}
    for code, status in STATUS.items():
        name = "default" if code in _OF_NO_ROUTE else str(status)
        by_status.setdefault(name, {})[code] = _MEANING[code]
    return {
        _error_name(status): error_component(status, codes) for status, codes in sorted(by_status.items())
    }
