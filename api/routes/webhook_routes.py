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

router = direct_router("", "webhooks")


_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "JSON, as the sender signed it. GitHub may also send a form: its only field, payload, "
        "is the JSON. A signed body is accepted whatever is in it",
        "content": {
            "application/json": {"schema": {}},
            "application/x-www-form-urlencoded": {"schema": {}},
        },
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
    accepted = await services.intake.receive_async(
        source, _headers(request), request.body, request.state.request_id
    )
    return reply_json(delivery_json(accepted), 202)


def _headers(request: Request) -> dict[str, str]:
    """Return the headers by name. A line break joins the values of a header that is given more than once."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}\n{value}" if name in headers else value
    return headers
