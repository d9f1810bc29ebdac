"""The shared parts of the OpenAPI document: headers and error responses; and how noise is left out."""

import re
from typing import Any, Final

#: pydantic's name of a page: Page_JobObject_ becomes JobPage.
_PAGE: Final = re.compile(r"Page_(\w+?)(?:Object)?_$")
_TEXT: Final = {"type": "string"}
_SECONDS: Final = {"type": "integer", "minimum": 0}
#: Every header of a response that has a meaning of ours.
HEADERS: Final[dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The request's id, which the log has too: the one that the client sent, or a new one.",
        "required": True,
        "schema": {**_TEXT, "pattern": "^[A-Za-z0-9._:/+=-]{1,100}$"},
    },
    "Location": {
        "description": "The path of the job.",
        "required": True,
        "schema": {**_TEXT, "format": "uri-reference"},
        "example": "/v1/jobs/019a8f3e-5c1b-7d10-8a65-0f4c2b9d7e31",
    },
    "Retry-After": {
        "description": "Try again after this many seconds.",
        "required": True,
        "schema": _SECONDS,
    },
    "WWW-Authenticate": {
        "description": "The scheme of the Authorization header.",
        "required": True,
        "schema": {**_TEXT, "const": "Bearer"},
    },
    "Idempotency-Replayed": {
        "description": "true when this is the stored answer to an earlier request with the same"
        " Idempotency-Key; otherwise the header is missing.",
        "schema": {**_TEXT, "const": "true"},
    },
    "Allow": {
        "description": "With 405 only: the methods of the path, separated by commas.",
        "schema": _TEXT,
        "example": "GET, DELETE",
    },
}
#: What a client may do with the job in a response.
JOB_LINKS: Final = {
    name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
    for name in ("show_job", "explain_job", "list_job_logs", "cancel_job", "retry_job", "delete_job")
}
_HEADERS_OF: Final = {
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
    "default": ("Allow",),
}
_EXAMPLE_ID: Final = "019a8f3e-6a52-7c44-b0de-52f1c7a90b18"


def header_references(*names: str) -> dict[str, Any]:
    """Return references to shared headers, for a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def error_component(status: str, codes: dict[str, str]) -> dict[str, Any]:
    """Return the shared response of a status. `codes`: each code and its meaning."""
    meanings = "; ".join(f"`{code}`: {meaning}" for code, meaning in codes.items())
    examples = {
        code: {"value": {"error": {"code": code, "message": meaning, "request_id": _EXAMPLE_ID}}}
        for code, meaning in codes.items()
    }
    return {
        "description": f"any other error; {meanings}" if status == "default" else meanings,
        "headers": header_references("X-Request-ID", *_HEADERS_OF.get(status, ())),
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ErrorObject"},
                "examples": examples,
            }
        },
    }


def tidy(part: Any) -> Any:
    """Return a part of the document without noise, and with names that generate well.

    The noise is what pydantic adds to each schema: a title, which repeats the name, and `default: null`.
    """
    if isinstance(part, list):
        return [tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _PAGE.sub(r"\1Page", value) if key == "$ref" else tidy(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }


def tidy_schemas(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return component schemas by their tidy names, sorted."""
    return {
        name: tidy(schemas[old]) for name, old in sorted((_PAGE.sub(r"\1Page", old), old) for old in schemas)
    }
