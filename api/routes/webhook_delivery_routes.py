"""Routes that read webhook deliveries: list them, show one, read a kept body."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from callboard.api.callers import Operator, Viewer
from callboard.api.openapi import guarded_responses
from callboard.api.path_parameters import UuidText
from callboard.api.query_filters import Optionally, reject_repeated_parameters
from callboard.api.schemas import DeliveryObject, Page, page_of, reply
from callboard.jobs.model.basics.fields import Handle, described
from callboard.jobs.model.basics.ids import parse_id
from callboard.jobs.model.paging import PAGE_LIMIT, cursor_pattern
from callboard.jobs.webhooks.history import CURSOR_SIZE

router = APIRouter(prefix="/v1/webhook-deliveries", tags=["webhooks"])

_BINARY: Final = "application/octet-stream"


DeliveryCursor = TypeAliasType("DeliveryCursor", Annotated[str, described(cursor_pattern(CURSOR_SIZE))])


class DeliveryQuery(BaseModel):
    """Which deliveries, and the page of the list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Optionally[Handle] = Field(default=None, description="the name of a source")
    mismatched: bool = Field(
        default=False, description="only deliveries whose id was used again with another body"
    )
    cursor: Optionally[DeliveryCursor] = Field(default=None, description="next_cursor of the previous page")
    limit: int = Field(default=50, ge=1, le=PAGE_LIMIT)


@router.get(
    "",
    response_model=Page[DeliveryObject],
    responses=guarded_responses("VALIDATION_ERROR", "NOT_FOUND"),
    dependencies=[Depends(reject_repeated_parameters)],
)
def list_webhook_deliveries(caller: Viewer, query: Annotated[DeliveryQuery, Query()]) -> Response:
    """List the deliveries that match, newest first. A restricted key may not."""
    caller.check_unrestricted("deliveries")
    page = caller.platform.deliveries.page(
        source=query.source, mismatched=query.mismatched, cursor=query.cursor, limit=query.limit
    )
    return reply(page_of(DeliveryObject, page.items, page.next_cursor))


@router.get(
    "/{id}", response_model=DeliveryObject, responses=guarded_responses("VALIDATION_ERROR", "NOT_FOUND")
)
def show_webhook_delivery(id: UuidText, caller: Viewer) -> Response:  # noqa: A002 - name in the path
    """Show a delivery. A restricted key may not."""
    caller.check_unrestricted("deliveries")
    return reply(DeliveryObject.model_validate(caller.platform.deliveries.get(parse_id(id))))


@router.get(
    "/{id}/body",
    response_class=Response,
    responses={
        200: {
            "description": "the raw body, as the sender signed it",
            "content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}},
        },
        **guarded_responses("VALIDATION_ERROR", "NOT_FOUND"),
    },
)
def read_webhook_delivery_body(id: UuidText, caller: Operator) -> Response:  # noqa: A002 - name in the path
    """Return the raw body that is kept for a delivery. A restricted key may not.

    A body is kept when the arguments of the job do not hold all of it.
    """
    caller.check_unrestricted("deliveries")
    delivery_id = parse_id(id)
    # The sender chose these bytes. A browser must not show them, nor guess their type.
    headers = {
        "Content-Disposition": f'attachment; filename="delivery-{delivery_id}.bin"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-store",
    }
    return Response(caller.platform.deliveries.body(delivery_id), media_type=_BINARY, headers=headers)
