"""The header Idempotency-Key: a repeated request gets the first answer and changes nothing."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Header, Request, Response
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool

from callboard.api.callers import Caller
from callboard.api.http.bodies import read_json
from callboard.api.openapi_parts import header_references
from callboard.api.query_filters import Optionally
from callboard.jobs.errors import InvalidInput
from callboard.jobs.idempotency.replay import keyed_request
from callboard.jobs.postgres.protocols import Statements

NAME: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
#: The header of a repeated answer, for the OpenAPI document.
REPLAYED_HEADER: Final = header_references(REPLAYED)

IdempotencyKey = Annotated[
    Optionally[
        Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[!-~](?:[ -~]{0,198}[!-~])?$"})]
    ],
    Header(
        alias=NAME,
        description="Up to 200 printable ASCII characters that the caller chooses. For 24 hours, the same"
        " request with the same key gets the first answer, with status 200 and Idempotency-Replayed: true."
        " Another request with the key is a CONFLICT. Each API key has its own Idempotency-Keys."
        " A request that was refused stores none.",
    ),
]


async def once(
    caller: Caller, request: Request, key: str, work: Callable[[Statements], dict[str, Any]]
) -> Response:
    """Answer with what `work` returns, or with what it returned the first time: `status`, `headers`, `body`
    (JSON).
    """
    if len(request.headers.getlist(NAME)) > 1:
        raise InvalidInput(f"{NAME} is given more than once", fields={NAME: "given twice"})
    body = read_json(await request.body())
    known = keyed_request(str(caller.key.id), key, request.method, request.url.path, body)
    answer = await run_in_threadpool(caller.platform.idempotency.once, known, work)
    content = answer.content
    headers = {**content["headers"], REPLAYED: "true"} if answer.replayed else content["headers"]
    return Response(
        content["body"],
        200 if answer.replayed else content["status"],
        headers=headers,
        media_type="application/json",
    )
