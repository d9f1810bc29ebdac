"""The service that reads stored deliveries: one, or a page."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from callboard.jobs.errors import NotFound
from callboard.jobs.model.paging import check_limit, read_cursor, write_cursor
from callboard.jobs.postgres.database import Database
from callboard.jobs.webhooks import repository
from callboard.jobs.webhooks.delivery import Delivery
from callboard.jobs.webhooks.sources import no_source

#: A cursor is the id of the last delivery of a page, in bytes.
CURSOR_SIZE: Final = 16


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries, newest first. `next_cursor` leads to the next page; None on the last page."""

    items: list[Delivery]
    next_cursor: str | None


class DeliveryHistory:
    """Reads deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, delivery_id: UUID) -> Delivery:
        """Return the delivery. Raises NotFound."""
        with self._database.autocommit() as connection:
            delivery = repository.show(connection, delivery_id)
        if delivery is None:
            raise NotFound(f"there is no webhook delivery {delivery_id}")
        return delivery

    def body(self, delivery_id: UUID) -> bytes:
        """Return the raw body of a delivery, as it was signed. Raises NotFound when none is kept."""
        with self._database.autocommit() as connection:
            body = repository.body(connection, delivery_id)
        if body is None:
            raise NotFound(
                f"no body is kept for the webhook delivery {delivery_id}: its job's payload has all of it, or"
                " the delivery is deleted"
            )
        return body

    def page(
        self,
        *,
        source: str | None = None,
        mismatched: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> DeliveryPage:
        """Return deliveries, newest first, up to 200. Raises NotFound when there is no such source.

        source:     only the deliveries of the source of this name.
        mismatched: only deliveries whose id was used again with another body.
        """
        check_limit(limit)
        before = None if cursor is None else UUID(bytes=read_cursor(cursor, CURSOR_SIZE))
        with self._database.autocommit() as connection:
            source_id = None if source is None else repository.source_id(connection, source)
            if source is not None and source_id is None:
                raise no_source(source)
            items = repository.page(
                connection, source=source_id, mismatched=mismatched, before=before, limit=limit + 1
            )
        more = len(items) > limit
        items = items[:limit]
        return DeliveryPage(items, write_cursor(items[-1].id.bytes) if more else None)
