"""Bodies of requests: JSON as RFC 8259 has it and nothing looser, read into a model."""

import json
from typing import Any, Final, TypeVar

import orjson
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.fields import invalid_input

M = TypeVar("M", bound=BaseModel)
#: Larger bodies are read in a thread, so that they hold nobody up.
_LARGE: Final = 32 * 1024


def body(model: type[M], *, required: bool = True) -> Any:
    """A dependency that reads the body into a model; InvalidInput names each field that does not fit.

    required: else no body at all stands for an empty object.
    """

    async def read(request: Request) -> M:
        raw = await request.body()
        if not raw and not required:
            return read_body(model, b"{}")
        _check_media_type(request.headers.get("content-type", "application/json"))
        if len(raw) > _LARGE:
            return await run_in_threadpool(read_body, model, raw)
        return read_body(model, raw)

    return Depends(read)


def read_body(model: type[M], raw: bytes) -> M:
    """Read JSON into a model; InvalidInput when it is none, or does not fit."""
    try:
        return model.model_validate(read_json(raw))
    except ValidationError as error:
        raise invalid_input(error) from None
    except OverflowError:
        # A time of the year 1 or 9999 whose offset leads out of the calendar.
        raise InvalidInput("a time lies outside of the years 1 to 9999") from None


def read_json(raw: bytes) -> Any:
    """The value of a JSON text. Refused beside what is no JSON: a key that comes twice in an object."""
    if not raw:
        raise InvalidInput("the body is empty (JSON is expected)", fields={"body": "empty"})
    try:
        # orjson is exact about the grammar, UTF-8 and surrogates; json keeps large integers and shows each pair.
        orjson.loads(raw)
        return json.loads(raw.decode(), object_pairs_hook=_no_key_twice)
    except RecursionError:
        raise _not_json("it is nested too deeply") from None
    except ValueError as error:
        raise _not_json(str(error)[:200]) from None


def takes(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """What the OpenAPI document says of a route that reads this model."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _check_media_type(given: str) -> None:
    kind = given.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise InvalidInput(
            f"the body is {kind[:60]!r}: send JSON, with the header Content-Type: application/json",
            fields={"content-type": "application/json is expected"},
        )


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidInput(
            f"the key {twice[:100]!r} comes twice in one object", fields={twice: "given twice"}
        )
    return read


def _not_json(reason: str) -> InvalidInput:
    return InvalidInput(f"the body is not JSON: {reason}", fields={"body": "JSON is expected"})
