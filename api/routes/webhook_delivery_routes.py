"""Routes that read webhook deliveries: list them, show one."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded_responses
from callboard.api.path_parameters import UuidText
from callboard.api.query_filters import Optionally, reject_repeated_parameters
from callboard.api.schemas import DeliveryObject, Page, page_of, reply
from callboard.jobs.model.basics.fields import Handle, described
from callboard.jobs.model.basics.ids import parse_id
from callboard.jobs.model.paging import PAGE_LIMIT, cursor_pattern
from callboard.jobs.webhooks.history import CURSOR_SIZE

router = APIRouter(prefix="/v1/webhook-deliveries", tags=["webhooks"])


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
