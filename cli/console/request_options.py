"""The options of an enqueue, and the request that they make."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import click

from callboard.cli.console.options import DURATION, TIME, DurationType

Command = TypeVar("Command", bound=Callable[..., Any])


class DeadlineType(click.ParamType[datetime]):
    """A time, or a duration from now on."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if value[:4].isdigit() and "-" in value:
            return TIME.convert(value, param, ctx)
        from callboard.jobs.model.clock import SYSTEM

        return SYSTEM.now() + DurationType().convert(value, param, ctx)


_OPTIONS: Final = (
    click.option("--queue", metavar="QUEUE", help="Other than the job's own queue."),
    click.option(
        "--in", "delay", type=DURATION, metavar="DURATION", help="Not before 10m, 1h, 2d have passed."
    ),
    click.option("--at", "run_at", type=TIME, metavar="TIME", help="Not before 2026-11-22T09:00:00Z."),
    click.option(
        "--expires",
        "expires_at",
        type=DeadlineType(),
        metavar="WHEN",
        help="Cancel it unless it has begun by 2026-11-22T09:00:00Z, or within 1h.",
    ),
    click.option(
        "--priority", type=click.IntRange(0, 9), metavar="N", help="0 (first) to 9; 5 when nothing is said."
    ),
    click.option("--unique-key", metavar="KEY", help="At most one unfinished job has this key."),
    click.option(
        "--unique-for",
        type=DURATION,
        metavar="DURATION",
        help="The key is held this long, even if the job ends earlier.",
    ),
    click.option(
        "--on-conflict",
        type=click.Choice(["existing", "replace", "reject"]),
        help="When the key is held: answer with the job that has it (default), give that job these arguments and"
        " this time if it has not begun, or refuse.",
    ),
    click.option("--limit-key", metavar="KEY", help="Whose limits within the queue it counts towards."),
    click.option("--tag", "tags", metavar="TAG", multiple=True, help="May be given more than once."),
    click.option(
        "--max-attempts", type=click.IntRange(1, 1000), metavar="N", help="Tries before it counts as failed."
    ),
    click.option(
        "--min-backoff", type=DURATION, metavar="DURATION", help="Before a retry, this long at least."
    ),
    click.option(
        "--max-backoff", type=DURATION, metavar="DURATION", help="Before a retry, this long at most."
    ),
    click.option("--job-timeout", type=DURATION, metavar="DURATION", help="An attempt may run this long."),
    click.option(
        "--hard-timeout",
        type=DURATION,
        metavar="DURATION",
        help="After this the process that runs an attempt is killed.",
    ),
)


def request_options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def request_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job request; raises UsageError when options contradict each other."""
    values = {key: value for key, value in given.items() if value is not None}
    values["tags"] = list(values.get("tags", ()))
    if "delay" in values and "run_at" in values:
        raise click.UsageError("--in and --at exclude each other")
    if "job_timeout" in values:
        values["timeout"] = values.pop("job_timeout")
    _ordered("--job-timeout", values.get("timeout"), "--hard-timeout", values.get("hard_timeout"))
    _ordered("--min-backoff", values.get("min_backoff"), "--max-backoff", values.get("max_backoff"))
    return values


def _ordered(low: str, least: timedelta | None, high: str, most: timedelta | None) -> None:
    if least is not None and most is not None and most < least:
        raise click.UsageError(f"{high} must not be shorter than {low}")
