"""`callboard queue`: list, show, pause, resume, limit and purge queues."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import click

from callboard.cli.console.options import json_option, yes_option
from callboard.cli.console.output import (
    Column,
    confirmed,
    note,
    print_items,
    print_json,
    print_table,
    require_consent,
    state_text,
)
from callboard.cli.console.text import ago, count
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.clock import SYSTEM

if TYPE_CHECKING:
    from callboard.jobs.model.queue_limits import Limits, Rate
    from callboard.jobs.operate.queue_counts import QueueCounts

_COLUMNS: Final = (
    Column("QUEUE", cut=True),
    Column("STATE"),
    Column("QUEUED", right=True),
    Column("RUNNING", right=True),
    Column("CLAIMED", right=True),
    Column("SCHEDULED", right=True),
    Column("RETRYING", right=True),
    Column("OLDEST"),
    Column("LIMITS", wide=True),
)
_NONE: Final = "none"


class _LimitType(click.ParamType["int | str"]):
    """A whole number that is allowed as a limit, or `none`."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        from callboard.jobs.model.queue_limits import MOST

        if value == _NONE or isinstance(value, int):
            return value  # type: ignore[no-any-return]
        if (
            not value.isascii()
            or not value.isdigit()
            or len(value) > len(str(MOST))
            or not 1 <= int(value) <= MOST
        ):
            self.fail(f"{value[:40]!r} is not a whole number from 1 to {MOST:,} and not 'none'", param, ctx)
        return int(value)


class _RateType(click.ParamType["Rate | str"]):
    """A rate such as `100/1m`, or `none`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Rate | str":
        from callboard.jobs.model.queue_limits import Rate

        if value == _NONE or isinstance(value, Rate):
            return value  # type: ignore[no-any-return]
        try:
            return Rate.parse(value)
        except InvalidInput as error:
            raise click.BadParameter(f"{error.message}, or 'none'", ctx, param) from None


@click.group()
def queue() -> None:
    """List, show, pause, resume, limit and purge queues."""


@queue.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List all queues.

    RUNNING counts jobs that have begun, CLAIMED those that a worker holds ahead.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.platform.queues.every()
    if as_json:
        print_items(_object(each) for each in found)
    else:
        _print(found)


@queue.command()
@click.argument("name", metavar="QUEUE")
@json_option
def show(*, name: str, as_json: bool) -> None:
    """Show one queue, its limits, and how much of them is in use."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.platform.queues.get(name)
    if as_json:
        print_json(_object(found))
        return
    _print([found])
    for line in _usage(found):
        note(line)


@queue.command()
@click.argument("name", metavar="QUEUE")
@json_option
def pause(*, name: str, as_json: bool) -> None:
    """Pause a queue: start no more of its jobs until it is resumed.

    Running jobs continue.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        _print_changed(runtime.platform.queues.pause(name), "paused", as_json=as_json)


@queue.command()
@click.argument("name", metavar="QUEUE")
@json_option
def resume(*, name: str, as_json: bool) -> None:
    """Start the jobs of a paused queue again."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        _print_changed(runtime.platform.queues.resume(name), "active", as_json=as_json)


@queue.command("limit")
@click.argument("name", metavar="QUEUE")
@click.option(
    "--concurrency",
    metavar="N",
    type=_LimitType(),
    help="Jobs that run at the same time on all workers, or none.",
)
@click.option(
    "--rate",
    metavar="N/TIME",
    type=_RateType(),
    help="Jobs that start in any period of this length: 100/1m, or none.",
)
@click.option(
    "--key-concurrency", metavar="N", type=_LimitType(), help="As --concurrency, for each limit key."
)
@click.option("--key-rate", metavar="N/TIME", type=_RateType(), help="As --rate, for each limit key.")
@click.option("--clear", is_flag=True, help="Remove every limit that is not given.")
@json_option
def limit_(*, name: str, clear: bool, as_json: bool, **given: Any) -> None:
    """Limit how many jobs of a queue run at once or start in a period.

    A limit that is not given stays unchanged; 'none' removes it. Changes apply immediately to all workers.
    """
    from callboard.cli.console.runtime import open_runtime
    from callboard.jobs.model.queue_limits import Limits

    changes = {key: None if value == _NONE else value for key, value in given.items() if value is not None}
    if not changes and not clear:
        raise click.UsageError(
            "give at least one of --concurrency, --rate, --key-concurrency, --key-rate and --clear"
        )
    with open_runtime() as runtime:
        found = runtime.platform.queues.limit(
            name, lambda now: replace(Limits() if clear else now, **changes)
        )
    if as_json:
        print_json(_object(found))
    else:
        note(f"queue {found.name}: {_limits_text(found.limits) or 'no limits'}")


@queue.command()
@click.argument("name", metavar="QUEUE")
@click.option("--dry-run", is_flag=True, help="Only count the jobs.")
@yes_option
@json_option
def purge(*, name: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Cancel every queued job of a queue.

    Scheduled, retrying and running jobs stay.
    """
    require_consent(yes=yes or dry_run)
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
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


def _print_changed(found: "QueueCounts", state: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_object(found))
    else:
        note(f"queue {found.name} is {state}; it has {count(found.queued, 'queued job')}")


def _object(found: "QueueCounts") -> dict[str, Any]:
    values = {**asdict(found), "limits": found.limits.written()}
    return {"name": found.name, "paused": found.paused_at is not None, **values}


def _limits_text(limits: "Limits") -> str:
    """Return the limits as text: `3 at once, 100/1m, each key 1 at once`."""
    parts = [
        (limits.concurrency, "{} at once"),
        (limits.rate, "{}"),
        (limits.key_concurrency, "each key {} at once"),
        (limits.key_rate, "each key {}"),
    ]
    return ", ".join(form.format(value) for value, form in parts if value is not None)


def _usage(found: "QueueCounts") -> list[str]:
    lines = []
    if found.limits.concurrency is not None:
        taken = found.running + found.claimed + found.granted
        lines.append(
            f"{taken:,} of {found.limits.concurrency:,} at once:"
            f" {found.running:,} running, {found.claimed + found.granted:,} about to start"
        )
    if found.limits.rate is not None:
        lines.append(f"{found.started:,} of {found.limits.rate} started")
    return lines


def _print(found: "list[QueueCounts]") -> None:
    now = SYSTEM.now()
    rows = [
        (
            each.name,
            state_text("paused" if each.paused_at else "active"),
            f"{each.queued:,}",
            f"{each.running:,}",
            f"{each.claimed:,}",
            f"{each.scheduled:,}",
            f"{each.retrying:,}",
            ago(each.oldest_at, now),
            _limits_text(each.limits) or "-",
        )
        for each in found
    ]
    print_table(_COLUMNS, rows, empty="there are no queues yet; the first job of a queue creates it")
