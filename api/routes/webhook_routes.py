"""Where other systems post. There is no key: the signature over the raw body is the proof."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from callboard.api.door import Api
from callboard.api.job_json import delivery_json
from callboard.api.openapi import fails
from callboard.api.schemas import DeliveryResult, reply_json
from callboard.jobs.errors import CallboardError, NotFound
from callboard.jobs.webhooks.deliveries import Accepted, Incoming

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
    incoming = Incoming(source, request.headers, await request.body())
    try:
        told: Accepted | Exception = await door.deliveries.commit(incoming, size=len(incoming.body))
    except CallboardError as error:
        told = error
    return reply_json(delivery_json(door.intake.heard(incoming, told)), 202)
