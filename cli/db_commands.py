"""`callboard db`: upgrade, downgrade and check the tables in Postgres."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from callboard.cli.console.error_lines import FAILED
from callboard.cli.console.options import json_option, yes_option
from callboard.cli.console.output import confirmed, note, print_json, require_consent

if TYPE_CHECKING:
    from callboard.jobs.postgres.schema import SchemaStatus


@click.group()
def db() -> None:
    """Create, upgrade and remove the tables in Postgres."""


@db.command()
@json_option
def upgrade(*, as_json: bool) -> None:
    """Upgrade the tables to the version that this code needs."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime(direct=True) as runtime:
        _print(runtime.platform.migrations.upgrade(), as_json=as_json)


@db.command()
@click.argument("revision", metavar="REV")
@yes_option
@json_option
def downgrade(*, revision: str, yes: bool, as_json: bool) -> None:
    """Downgrade the tables to the earlier version REV.

    'base' removes the tables and all their data.
    """
    require_consent(yes=yes)
    from callboard.cli.console.runtime import open_runtime

    with open_runtime(direct=True) as runtime:
        question = (
            "remove all tables and every job?"
            if revision == "base"
            else f"downgrade to {revision}, and lose the data that only newer versions have?"
        )
        if not confirmed(question, yes=yes):
            raise click.exceptions.Exit(1)
        _print(runtime.platform.migrations.downgrade(revision), as_json=as_json)


@db.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show the version of the tables, and the version needed.

    Exit with 1 unless they are the same.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.platform.migrations.status()
    _print(found, as_json=as_json)
    if not found.up_to_date:
        raise click.exceptions.Exit(FAILED)


def _print(status: "SchemaStatus", *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(status) | {"up_to_date": status.up_to_date})
        return
    click.echo(status.current or "none")
    if status.up_to_date:
        note("the tables are up to date")
    elif status.is_newer:
        note(
            f"the tables are newer than this code, which has version {status.needed}: install the newer code"
        )
    else:
        note(f"this code needs version {status.needed}: run 'callboard db upgrade'")
