"""The header Idempotency-Key: the same request again gets the same answer, and does nothing."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Header, Request, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from callboard.api.callers import Caller
from callboard.api.http.bodies import read_json
from callboard.jobs.errors import InvalidInput
from callboard.jobs.idempotency.replay import asked

NAME: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
#: What the OpenAPI document says of an answer that may be one of before.
REPLAYED_HEADER: Final = {
    REPLAYED: {
        "description": "true when it is the answer that the Idempotency-Key had before",
        "schema": {"type": "string", "enum": ["true"]},
    }
}

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=NAME,
        description="Up to 200 printable characters of the caller's choice. For 24 hours the same request under the same"
        " key is answered as it was the first time, with 200 and Idempotency-Replayed: true; another request under it is"
        " a CONFLICT. Keys belong to the API key that sends them; a request that was refused leaves none.",
    ),
]


async def once(
    caller: Caller, request: Request, key: str, work: Callable[[Connection], dict[str, Any]]
) -> Response:
    """Answer as `work` says, or as it said the first time. It returns `status`, `headers` and `body`, a JSON text."""
    if len(request.headers.getlist(NAME)) > 1:
        raise InvalidInput(f"{NAME} is given more than once", fields={NAME: "given twice"})
    body = read_json(await request.body())
    known = asked(str(caller.key.id), key, request.method, request.url.path, body)
    answer = await run_in_threadpool(caller.platform.idempotency.once, known, work)
    said = answer.content
    headers = {**said["headers"], REPLAYED: "true"} if answer.replayed else said["headers"]
    return Response(
        said["body"],
        200 if answer.replayed else said["status"],
        headers=headers,
        media_type="application/json",
    )
