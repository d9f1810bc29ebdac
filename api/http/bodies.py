"""Read request bodies: strict JSON (RFC 8259), validated by a pydantic model."""

from collections.abc import Iterable
from typing import Any, Final, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from callboard.jobs.errors import InvalidInput, UnsupportedMediaType
from callboard.jobs.model.basics.fields import invalid_input
from callboard.jobs.model.basics.strict_json import NotJson, RepeatedKey, parse

M = TypeVar("M", bound=BaseModel)
#: A body of more bytes is parsed in a thread, because parsing it would block the event loop.
MAX_INLINE: Final = 32 * 1024
_JSON: Final = b"application/json"


def body(model: type[M], *, required: bool = True) -> Any:
    """Return a dependency that reads the body into a model. Its InvalidInput names every invalid field.

    required: if False, a missing body counts as an empty object
    """

    async def read(request: Request) -> M:
        _check_headers(request.scope["headers"])
        raw = await request.body()
        if not raw and not required:
            return read_body(model, b"{}")
        if len(raw) > MAX_INLINE:
            return await run_in_threadpool(read_body, model, raw)
        return read_body(model, raw)

    return Depends(read)


def read_body(model: type[M], raw: bytes) -> M:
    """Parse JSON into a model; raise InvalidInput if it is not JSON or not valid for the model."""
    try:
        return model.model_validate(read_json(raw))
    except ValidationError as error:
        raise invalid_input(error) from None
    except OverflowError:
        # A time in the year 1 or 9999 whose UTC equivalent is outside the calendar.
        raise InvalidInput("a time is outside the years 1 to 9999") from None


def read_json(raw: bytes) -> Any:
    """Return the value of a JSON text; raise InvalidInput if it is not JSON, or an object repeats a key."""
    if not raw:
        raise InvalidInput("the body is empty; JSON is expected", fields={"body": "empty"})
    try:
        return parse(raw)
    except RepeatedKey as error:
        raise InvalidInput(error.reason, fields={error.key: "given twice"}) from None
    except NotJson as error:
        raise InvalidInput(
            f"the body is not JSON: {error.reason}", fields={"body": "JSON is expected"}
        ) from None


def request_body_schema(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI entry for a route that reads this model from the body."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _check_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise UnsupportedMediaType unless the body is declared as plain JSON, or not at all."""
    for name, value in headers:
        if name == b"content-type":
            if value != _JSON:
                _check_media_type(value.decode("latin-1"))
        elif name == b"content-encoding":
            _check_encoding(value.decode("latin-1"))


def _check_media_type(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType(
            f"the body has the media type {kind[:60]!r}: send JSON, with Content-Type: application/json",
            fields={"content-type": "application/json is expected"},
        )


def _check_encoding(coding: str) -> None:
    if coding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType(
            f"the body has the content encoding {coding[:60]!r}: send it without compression",
            fields={"content-encoding": "no encoding is expected"},
        )
