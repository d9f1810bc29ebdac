"""The route that other systems post to.

It needs no key: the signature over the raw body proves the sender.
"""

from typing import Any, Final

from fastapi import Request, Response

from callboard.api.direct_route import direct_router
from callboard.api.job_json import delivery_json
from callboard.api.openapi import BODY_ERRORS, error_responses
from callboard.api.path_parameters import WebhookSourceText
from callboard.api.schemas import DeliveryResult, reply_json
from callboard.api.services import AppServices
from callboard.jobs.errors import NotFound
from callboard.jobs.webhooks.deliveries import Incoming

router = direct_router("", "webhooks")

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
    responses=error_responses(
        "VALIDATION_ERROR",
        "UNAUTHORIZED",
        "NOT_FOUND",
        *BODY_ERRORS,
        "UNKNOWN_JOB",
        "INVALID_ARGUMENTS",
        "UNAVAILABLE",
    ),
    openapi_extra=_BODY,
)
async def receive_webhook(source: WebhookSourceText, services: AppServices, request: Request) -> Response:
    """Accept a delivery; when the answer arrives, its job is committed.

    A repeated delivery is only acknowledged.
    """
    if "\0" in source:
        raise NotFound("no webhook source has a NUL character in its name")
    incoming = Incoming(source, request.headers, await request.body())
    return reply_json(delivery_json(await services.intake.receive_async(incoming)), 202)
