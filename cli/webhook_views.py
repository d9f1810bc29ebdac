"""Print webhook deliveries: a table of many, the fields of one."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from callboard.cli.console.output import (
    Column,
    note,
    print_fields,
    print_items,
    print_json,
    print_table,
)
from callboard.cli.console.text import ago, moment
from callboard.jobs.model.basics.clock import SYSTEM

if TYPE_CHECKING:
    from callboard.jobs.webhooks.delivery import Delivery
    from callboard.jobs.webhooks.history import DeliveryPage

_COLUMNS: Final = (
    Column("ID"),
    Column("SOURCE", cut=True),
    Column("EVENT", cut=True),
    Column("RECEIVED"),
    Column("MISMATCHES", right=True),
    Column("JOB", wide=True),
    Column("SENDER'S ID", wide=True, cut=True),
)


def print_deliveries(page: "DeliveryPage", *, as_json: bool) -> None:
    """Print a page of deliveries."""
    if as_json:
        print_items([asdict(each) for each in page.items], page.next_cursor)
        return
    print_table(_COLUMNS, _rows(page.items), empty="no deliveries match")
    if page.next_cursor:
        note(f"next page: --cursor {page.next_cursor}")


def print_delivery(delivery: "Delivery", *, as_json: bool) -> None:
    """Print one delivery."""
    if as_json:
        print_json(asdict(delivery))
        return
    now = SYSTEM.now()
    fields: list[tuple[str, Any]] = [
        ("id", str(delivery.id)),
        ("source", delivery.source),
        ("sender's id", delivery.external_id),
        ("event", delivery.event),
        ("received", moment(delivery.received_at, now)),
        ("body SHA-256", delivery.body_sha256),
        ("job", "none: the source ignores this event" if delivery.job_id is None else str(delivery.job_id)),
    ]
    if delivery.kept_bytes is not None:
        fields.append(("kept body", f"{delivery.kept_bytes:,} bytes; see 'callboard webhook body'"))
    if delivery.mismatched_at is not None:
        last = moment(delivery.mismatched_at, now)
        fields.append(
            ("mismatches", f"{delivery.mismatch_count:,}: sent again with another body; last {last}")
        )
    print_fields(fields)


def _rows(deliveries: "Sequence[Delivery]") -> list[tuple[str, ...]]:
    now = SYSTEM.now()
    return [
        (
            str(each.id),
            each.source,
            each.event,
            ago(each.received_at, now),
            f"{each.mismatch_count:,}" if each.mismatch_count else "",
            "" if each.job_id is None else str(each.job_id),
            each.external_id,
        )
        for each in deliveries
    ]
