"""`callboard key`: create, list and revoke the API keys for HTTP."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from callboard.cli.console.options import DURATION, json_option
from callboard.cli.console.output import Column, note, print_items, print_json, print_table, state_text
from callboard.cli.console.text import ago
from callboard.jobs.model.basics.clock import SYSTEM

if TYPE_CHECKING:
    from datetime import datetime

    from callboard.jobs.access.api_key import ApiKey

_COLUMNS: Final = (
    Column("NAME", cut=True),
    Column("PREFIX"),
    Column("ROLE"),
    Column("STATE"),
    Column("QUEUE", cut=True),
    Column("JOB", cut=True),
    Column("CREATED", wide=True),
    Column("EXPIRES"),
)


@click.group()
def key() -> None:
    """Create, list and revoke the API keys for HTTP."""


@key.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["viewer", "operator", "admin"], case_sensitive=False),
    required=True,
    help="A viewer reads; an operator also enqueues and changes jobs; an admin may do everything.",
)
@click.option("--queue", metavar="QUEUE", help="Restrict the key to the jobs of one queue.")
@click.option("--job", metavar="JOB", help="Restrict the key to one job, by its name.")
@click.option(
    "--expires", type=DURATION, metavar="DURATION", help="Let the key expire after this time: 90d, 12h."
)
@json_option
def create(
    *, name: str, role: str, queue: str | None, job: str | None, expires: timedelta | None, as_json: bool
) -> None:
    """Create a key and print it once: only its digest is stored.

    With --queue and --job, both restrictions apply.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        if job is not None:
            job = runtime.platform.catalogue.full_name(job)
        made, token = runtime.platform.auth.create(name, role, queue=queue, job=job, expires=expires)
    if as_json:
        print_json(asdict(made) | {"token": token})
        return
    click.echo(token)
    note(f"{made.role} key {made.name} is created; save it now, it is not shown again")


@key.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List all keys, without their secret part, which is not stored."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.platform.auth.every()
    now = SYSTEM.now()
    if as_json:
        print_items(asdict(each) for each in found)
        return
    rows = [
        (
            each.name,
            each.prefix,
            each.role,
            state_text(_state(each, now)),
            each.queue or "all",
            each.job or "all",
            ago(each.created_at, now),
            ago(each.expires_at, now) or "never",
        )
        for each in found
    ]
    print_table(_COLUMNS, rows, empty="there are no keys yet; create one with 'callboard key create'")


@key.command()
@click.argument("name")
@json_option
def revoke(*, name: str, as_json: bool) -> None:
    """Revoke a key by its name, prefix or id.

    Every api process refuses the key within 5 seconds.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        revoked = runtime.platform.auth.revoke(name)
    if as_json:
        print_json(asdict(revoked))
    else:
        note(f"key {revoked.name} ({revoked.prefix}) is revoked")


def _state(key: "ApiKey", now: "datetime") -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= now else "active"
