"""The options of `job enqueue`, and their conversion into the fields of a job request."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import click

from callboard.cli.console.options import DURATION, TIME, DurationType

Command = TypeVar("Command", bound=Callable[..., Any])


class DeadlineType(click.ParamType[datetime]):
    """A time in the future: an ISO 8601 time, or a duration from now."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if value[:4].isdigit() and "-" in value:
            return TIME.convert(value, param, ctx)
        from callboard.jobs.model.basics.clock import SYSTEM

        return SYSTEM.now() + DurationType().convert(value, param, ctx)


_OPTIONS: Final = (
    click.option("--queue", metavar="QUEUE", help="Use this queue instead of the job's own queue."),
    click.option(
        "--in", "delay", type=DURATION, metavar="DURATION", help="Start after this delay: 10m, 1h, 2d."
    ),
    click.option(
        "--at", "run_at", type=TIME, metavar="TIME", help="Start at this time: 2026-11-22T09:00:00Z."
    ),
    click.option(
        "--expires",
        "expires_at",
        type=DeadlineType(),
        metavar="WHEN",
        help="Cancel the job if it has not started by this time: 2026-11-22T09:00:00Z, or 1h (from now).",
    ),
    click.option(
        "--priority", type=click.IntRange(0, 9), metavar="N", help="0 (first) to 9 (last); the default is 5."
    ),
    click.option("--unique-key", metavar="KEY", help="Allow only one unfinished job with this key."),
    click.option(
        "--unique-for",
        type=DURATION,
        metavar="DURATION",
        help="Hold the key for this long, even if the job ends earlier.",
    ),
    click.option(
        "--on-conflict",
        type=click.Choice(["existing", "replace", "reject"]),
        help="If a job holds the key: return that job (existing, the default), replace its arguments and time"
        " unless it has started (replace), or fail (reject).",
    ),
    click.option("--limit-key", metavar="KEY", help="Count the job towards the queue's limits for this key."),
    click.option("--tag", "tags", metavar="TAG", multiple=True, help="Add a tag; may be repeated."),
    click.option(
        "--max-attempts", type=click.IntRange(1, 1000), metavar="N", help="Fail the job after N attempts."
    ),
    click.option(
        "--min-backoff", type=DURATION, metavar="DURATION", help="Wait at least this long before a retry."
    ),
    click.option(
        "--max-backoff", type=DURATION, metavar="DURATION", help="Wait at most this long before a retry."
    ),
    click.option(
        "--job-timeout", type=DURATION, metavar="DURATION", help="Stop an attempt that runs longer than this."
    ),
    click.option(
        "--hard-timeout",
        type=DURATION,
        metavar="DURATION",
        help="Kill the process of an attempt that runs longer than this.",
    ),
)


def request_options(command: Command) -> Command:
    """Add the options of an enqueue to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def request_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job request; raise UsageError if two options contradict each other."""
    values = {key: value for key, value in options.items() if value is not None}
    values["tags"] = list(values.get("tags", ()))
    if "delay" in values and "run_at" in values:
        raise click.UsageError("--in and --at cannot be used together")
    if "job_timeout" in values:
        values["timeout"] = values.pop("job_timeout")
    _check_order("--job-timeout", values.get("timeout"), "--hard-timeout", values.get("hard_timeout"))
    _check_order("--min-backoff", values.get("min_backoff"), "--max-backoff", values.get("max_backoff"))
    return values


def _check_order(low: str, lower: timedelta | None, high: str, upper: timedelta | None) -> None:
    if lower is not None and upper is not None and upper < lower:
        raise click.UsageError(f"{high} must not be shorter than {low}")
