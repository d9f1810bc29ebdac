"""`callboard queue`: what the queues hold; pause, resume, purge."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from cli.options import json_option, yes_option
from cli.output import Column, confirmed, note, print_items, print_json, print_table, state_text
from cli.text import ago, count
from jobs.clock import SYSTEM

if TYPE_CHECKING:
    from jobs.repositories.queues import QueueCounts

_COLUMNS: Final = (
    Column("QUEUE", cut=True),
    Column("STATE"),
    Column("QUEUED", right=True),
    Column("RUNNING", right=True),
    Column("SCHEDULED", right=True),
    Column("RETRYING", right=True),
    Column("OLDEST"),
)


@click.group()
def queue() -> None:
    """See what the queues hold; pause, resume and purge them."""


@queue.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List all queues."""
    from cli.runtime import opened

    with opened() as runtime:
        found = runtime.platform.queues.every()
    if as_json:
        print_items(_object(each) for each in found)
    else:
        _print(found)


@queue.command()
@click.argument("name", metavar="QUEUE")
@json_option
def show(*, name: str, as_json: bool) -> None:
    """Show one queue."""
    from cli.runtime import opened

    with opened() as runtime:
        found = runtime.platform.queues.get(name)
    if as_json:
        print_json(_object(found))
    else:
        _print([found])


@queue.command()
@click.argument("name", metavar="QUEUE")
@json_option
def pause(*, name: str, as_json: bool) -> None:
    """Let no job of a queue start until it is resumed; what runs goes on."""
    from cli.runtime import opened

    with opened() as runtime:
        _changed(runtime.platform.queues.pause(name), "paused", as_json=as_json)


@queue.command()
@click.argument("name", metavar="QUEUE")
@json_option
def resume(*, name: str, as_json: bool) -> None:
    """Let the jobs of a queue start again."""
    from cli.runtime import opened

    with opened() as runtime:
        _changed(runtime.platform.queues.resume(name), "active", as_json=as_json)


@queue.command()
@click.argument("name", metavar="QUEUE")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@yes_option
@json_option
def purge(*, name: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Cancel every queued job of a queue.

    What is scheduled, retrying or running stays.
    """
    from cli.runtime import opened

    with opened() as runtime:
        queues = runtime.platform.queues
        matched = queues.purge(name, dry_run=True)
        purged = 0
        if not dry_run and matched:
            if not confirmed(f"cancel {count(matched, 'queued job')} of {name}?", yes=yes):
                raise click.exceptions.Exit(1)
            purged = queues.purge(name)
    if as_json:
        print_json({"queue": name, "matched": matched, "changed": purged, "dry_run": dry_run})
    elif dry_run:
        note(f"{count(matched, 'job')} would be cancelled")
    else:
        note(f"{count(purged, 'job')} cancelled")


def _changed(found: "QueueCounts", state: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_object(found))
    else:
        note(f"queue {found.name} is {state}; it has {count(found.queued, 'queued job')}")


def _object(found: "QueueCounts") -> dict[str, Any]:
    return {"name": found.name, "paused": found.paused_at is not None, **asdict(found)}


def _print(found: "list[QueueCounts]") -> None:
    now = SYSTEM.now()
    rows = [
        (
            each.name,
            state_text("paused" if each.paused_at else "active"),
            f"{each.queued:,}",
            f"{each.running:,}",
            f"{each.scheduled:,}",
            f"{each.retrying:,}",
            ago(each.oldest_at, now),
        )
        for each in found
    ]
    print_table(_COLUMNS, rows, empty="there are no queues yet; the first job makes one")
