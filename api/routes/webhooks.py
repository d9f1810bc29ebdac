"""Where other systems post. There is no key: the signature over the raw body is the proof."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.door import Api
from api.openapi import fails
from api.schemas import DeliveryResult, reply
from jobs.errors import NotFound

router = APIRouter(tags=["webhooks"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "JSON, as the sender signed it",
        "content": {"application/json": {"schema": {}}},
    }
}


@router.post(
    "/webhooks/{source}",
    status_code=202,
    response_model=DeliveryResult,
    responses=fails(
        "VALIDATION_ERROR",
        "UNAUTHORIZED",
        "NOT_FOUND",
        "PAYLOAD_TOO_LARGE",
        "UNKNOWN_JOB",
        "INVALID_ARGUMENTS",
        "UNAVAILABLE",
    ),
    openapi_extra=_BODY,
)
async def receive_webhook(source: str, door: Api, request: Request) -> Response:
    """Take a delivery in; with the answer its job is committed. The same delivery again is acknowledged, and no more."""
    if "\0" in source:
        raise NotFound("no webhook source has a NUL character in its name")
    raw = await request.body()
    accepted = await run_in_threadpool(door.intake.receive, source, dict(request.headers), raw)
    return reply(DeliveryResult.model_validate(accepted, from_attributes=True), 202)
