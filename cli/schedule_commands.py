"""`callboard schedule`: enqueue jobs by cron, at intervals or once. `schedule_views.py` prints schedules."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import click

from callboard.cli.console.arguments_option import read_arguments
from callboard.cli.console.options import DURATION, TIME, json_option, yes_option
from callboard.cli.console.output import confirmed, note, print_json, require_consent
from callboard.cli.schedule_views import (
    print_fires,
    print_schedule,
    print_schedules,
    print_ticks,
    schedule_object,
)

if TYPE_CHECKING:
    from callboard.jobs.schedules.cron import DstGap

_GAP: Final = click.Choice(["shift", "skip"])
_GAP_HELP: Final = "A time that daylight saving skips: fire at the next existing time (shift) or not (skip)."


@click.group()
def schedule() -> None:
    """Enqueue jobs by cron, at intervals, or once at a given time."""


@schedule.command()
@click.argument("name")
@click.option("--job", required=True, metavar="JOB", help="The job that each tick enqueues.")
@click.option(
    "--cron", metavar="EXPR", help="Five cron fields ('30 9 * * mon-fri') or a name such as @daily."
)
@click.option("--every", type=DURATION, metavar="DURATION", help="Every 30s, 10m, 1h, counted from now.")
@click.option("--at", type=TIME, metavar="TIME", help="Once, at 2026-11-22T09:00:00Z.")
@click.option(
    "--tz", "timezone", metavar="ZONE", help="The time zone of --cron: Europe/Berlin. [default: UTC]"
)
@click.option("--dst-gap", type=_GAP, default="shift", show_default=True, help=_GAP_HELP)
@click.option(
    "--args",
    "arguments",
    metavar="JSON",
    help="A JSON object (arguments by name) or array (by position); @FILE, or - for stdin.",
)
@click.option("--queue", metavar="QUEUE", help="Use this queue instead of the job's own queue.")
@click.option("--priority", type=click.IntRange(0, 9), metavar="N", help="0 (first) to 9 (last).")
@click.option(
    "--overlap",
    type=click.Choice(["skip", "allow_all"]),
    default="skip",
    show_default=True,
    help="If the last tick's job is unfinished: skip this tick, or enqueue anyway (allow_all).",
)
@click.option(
    "--catchup",
    type=click.Choice(["latest", "none"]),
    default="latest",
    show_default=True,
    help="After a time without a scheduler: fire the latest missed tick, or none.",
)
@click.option(
    "--catchup-window",
    type=DURATION,
    metavar="DURATION",
    help="Fire a missed tick only if it is at most this late. [default: 1h]",
)
@click.option(
    "--unchecked",
    is_flag=True,
    help="Accept any job name and arguments: for a job that no worker has published yet.",
)
@json_option
def create(
    *,
    name: str,
    arguments: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Create a schedule. Its first tick is its first time after now.

    \b
    callboard schedule create nightly --job build_report --cron '30 2 * * *' \\
        --tz Europe/Berlin --args '{"account_id": 7}'
    """  # noqa: D301 - \b tells click to keep the lines
    rules = [f"--{rule}" for rule in ("cron", "every", "at") if options[rule] is not None]
    if len(rules) != 1:
        raise click.UsageError(
            f"give exactly one of --cron, --every and --at, not {' and '.join(rules) or 'none'}"
        )
    values = {"name": name, **read_arguments(arguments), **_without_none(options)}
    from callboard.cli.console.runtime import open_runtime
    from callboard.jobs.schedules.manage import schedule_request

    request = schedule_request(values)
    with open_runtime() as runtime:
        made = runtime.schedules().create(request)
    if as_json:
        print_json(schedule_object(made))
    else:
        print_schedule(made)


@schedule.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List all schedules."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        print_schedules(runtime.schedules().every(), as_json=as_json)


@schedule.command()
@click.argument("name")
@json_option
def show(*, name: str, as_json: bool) -> None:
    """Show one schedule."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.schedules().get(name)
    if as_json:
        print_json(schedule_object(found))
    else:
        print_schedule(found)


@schedule.command()
@click.argument("name")
@json_option
def pause(*, name: str, as_json: bool) -> None:
    """Stop a schedule until it is resumed.

    Ticks that pass in the meantime are never fired.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.schedules().pause(name)
    if as_json:
        print_json(schedule_object(found))
    else:
        note(f"schedule {found.name} is paused")


@schedule.command()
@click.argument("name")
@json_option
def resume(*, name: str, as_json: bool) -> None:
    """Resume a paused schedule. Its next tick is its first time after now."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.schedules().resume(name)
    if as_json:
        print_json(schedule_object(found))
    else:
        note(f"schedule {found.name} is active")


@schedule.command()
@click.argument("name")
@yes_option
@json_option
def delete(*, name: str, yes: bool, as_json: bool) -> None:
    """Delete a schedule.

    The history of its ticks is deleted too; its jobs stay.
    """
    require_consent(yes=yes)
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        schedules = runtime.schedules()
        schedules.get(name)
        if not confirmed(f"delete the schedule {name} and the history of its ticks?", yes=yes):
            raise click.exceptions.Exit(1)
        schedules.delete(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        note(f"schedule {name} is deleted")


@schedule.command()
@click.argument("name")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most N ticks.",
)
@json_option
def ticks(*, name: str, limit: int, as_json: bool) -> None:
    """List a schedule's past ticks and their results, newest first."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        print_ticks(runtime.schedules().ticks(name, limit), as_json=as_json)


@schedule.command()
@click.argument("expr")
@click.option(
    "--tz", "timezone", metavar="ZONE", default="UTC", show_default=True, help="The time zone: Europe/Berlin."
)
@click.option("--from", "start", type=TIME, metavar="TIME", help="Show times after this one. [default: now]")
@click.option(
    "--count", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N", help="Show N times."
)
@click.option("--dst-gap", type=_GAP, default="shift", show_default=True, help=_GAP_HELP)
@json_option
def preview(
    *, expr: str, timezone: str, start: datetime | None, count: int, dst_gap: str, as_json: bool
) -> None:
    """Show when a cron expression fires next. Needs no server.

    \b
    callboard schedule preview '30 2 * * mon-fri' --tz Europe/Berlin
    """  # noqa: D301 - \b tells click to keep the lines
    from callboard.jobs.model.basics.clock import SYSTEM
    from callboard.jobs.schedules.cron import cron_calendar

    calendar = cron_calendar(expr, timezone, cast("DstGap", dst_gap))
    fires = list(calendar.fires(start or SYSTEM.now(), None, count))
    if as_json:
        print_json({"fires": fires})
    else:
        print_fires(fires, calendar.zone)


def _without_none(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
