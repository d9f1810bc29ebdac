"""`callboard webhook`: manage the external systems whose deliveries become jobs.

`webhook_views.py` prints deliveries.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from callboard.cli.console.arguments_option import read_text
from callboard.cli.console.options import ID, json_option, yes_option
from callboard.cli.console.output import (
    Column,
    confirmed,
    note,
    print_items,
    print_json,
    print_table,
    require_consent,
)
from callboard.cli.console.text import ago, one_line
from callboard.cli.webhook_views import print_deliveries, print_delivery
from callboard.jobs.model.basics.clock import SYSTEM

if TYPE_CHECKING:
    from callboard.jobs.webhooks.source import WebhookSource

_COLUMNS: Final = (
    Column("NAME", cut=True),
    Column("SCHEME"),
    Column("JOB", cut=True),
    Column("EVENTS", cut=True),
    Column("CREATED"),
)


@click.group()
def webhook() -> None:
    """Let external systems enqueue jobs."""


@webhook.command("list")
@click.option("--source", metavar="NAME", help="Only deliveries of this source.")
@click.option("--mismatched", is_flag=True, help="Only deliveries whose id was used again with another body.")
@click.option(
    "--limit",
    type=click.IntRange(1, 200),
    default=50,
    show_default=True,
    metavar="N",
    help="Deliveries per page.",
)
@click.option("--cursor", metavar="CURSOR", help="Show the next page; the page before prints its cursor.")
@json_option
def list_deliveries(
    *, source: str | None, mismatched: bool, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List deliveries, newest first."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        page = runtime.platform.deliveries.page(
            source=source, mismatched=mismatched, cursor=cursor, limit=limit
        )
    print_deliveries(page, as_json=as_json)


@webhook.command("show")
@click.argument("delivery_id", metavar="ID", type=ID)
@json_option
def show_delivery(*, delivery_id: UUID, as_json: bool) -> None:
    """Show one delivery: its source, event, sender's id and job.

    To run it again, retry its job: 'callboard job retry ID'.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        delivery = runtime.platform.deliveries.get(delivery_id)
    print_delivery(delivery, as_json=as_json)


@webhook.command("body")
@click.argument("delivery_id", metavar="ID", type=ID)
@click.option(
    "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write to this file, not to stdout."
)
def read_body(*, delivery_id: UUID, output: str | None) -> None:
    """Write the raw body that is kept for a delivery.

    A body is kept when the arguments of the job do not hold all of it. 'callboard webhook show ID' says so.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        body = runtime.platform.deliveries.body(delivery_id)
    with click.open_file(output or "-", "wb") as file:
        file.write(body)


@webhook.group("source")
def source() -> None:
    """Manage sources: who may post, and which job a delivery becomes."""


@source.command()
@click.argument("name")
@click.option(
    "--scheme", required=True, metavar="SCHEME", help="How the sender signs: github or standard-webhooks."
)
@click.option("--job", required=True, metavar="JOB", help="The job that each delivery becomes.")
@click.option(
    "--event", "events", metavar="EVENT", multiple=True, help="Accept only this event; may be repeated."
)
@click.option(
    "--secret",
    metavar="TEXT",
    help="The sender's signing secret: @FILE, - for stdin, or text. By default one is generated and printed.",
)
@click.option(
    "--unchecked", is_flag=True, help="Accept any job name: for a job that no worker has published yet."
)
@json_option
def create(
    *,
    name: str,
    scheme: str,
    job: str,
    events: tuple[str, ...],
    secret: str | None,
    unchecked: bool,
    as_json: bool,
) -> None:
    """Create a source and print its signing secret once.

    Its job gets three arguments: event, delivery_id and payload.

    \b
    callboard webhook source create github --scheme github --job on_push
    """  # noqa: D301 - \b tells click to keep the lines
    given = None if secret is None else read_text(secret, "--secret")
    from callboard.cli.console.runtime import open_runtime
    from callboard.jobs.webhooks.intake import source_request

    request = source_request(
        {
            "name": name,
            "scheme": scheme,
            "job": job,
            "events": list(events),
            "secret": given,
            "unchecked": unchecked,
        }
    )
    with open_runtime() as runtime:
        made, signing = runtime.intake().create(request)
        settings = runtime.settings
        address = f"{settings.url_scheme}://{settings.host}:{settings.port}{_path(made)}"
    if given is not None and signing not in {given, given.removesuffix("\n")}:
        note(
            "the secret is stored in its usual form, not as it was given: blanks around it are removed, and"
            " a prefix or padding is mended"
        )
    if as_json:
        print_json(_object(made) | {"secret": signing})
        return
    if given is None:
        click.echo(signing)
    note(f"source {made.name} receives deliveries at {address}")


@source.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List all sources."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.intake().every()
    if as_json:
        print_items(_object(each) for each in found)
        return
    now = SYSTEM.now()
    rows = [
        (
            each.name,
            each.scheme,
            each.job,
            ", ".join(map(one_line, each.events)) or "all",
            ago(each.created_at, now),
        )
        for each in found
    ]
    print_table(
        _COLUMNS, rows, empty="there are no sources yet; create one with 'callboard webhook source create'"
    )


@source.command()
@click.argument("name")
@yes_option
@json_option
def delete(*, name: str, yes: bool, as_json: bool) -> None:
    """Delete a source.

    The history of its deliveries is deleted too; its jobs stay.
    """
    require_consent(yes=yes)
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        if not confirmed(f"delete the source {name} and the history of its deliveries?", yes=yes):
            raise click.exceptions.Exit(1)
        runtime.intake().delete(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        note(f"source {name} is deleted")


def _path(source: "WebhookSource") -> str:
    return f"/webhooks/{source.name}"


def _object(source: "WebhookSource") -> dict[str, Any]:
    shown = asdict(source) | {"path": _path(source)}
    del shown["secrets"]
    return shown
