"""Options that select jobs, shared by `job list` and by `job cancel|retry|delete` with a filter."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from callboard.cli.console.options import MOMENT
from callboard.cli.console.text import clock
from callboard.jobs.model.states import JobState

if TYPE_CHECKING:
    from callboard.jobs.operate.job_filter import JobFilter


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which jobs a command acts on: those that match every field that is set."""

    state: tuple[str, ...] = ()
    queue: str | None = None
    name: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None

    @property
    def is_set(self) -> bool:
        """Return whether any criterion is given."""
        return self != Criteria()

    def filter(self) -> "JobFilter":
        """Return the criteria as the filter that the platform takes."""
        from callboard.jobs.operate.job_filter import JobFilter

        states = tuple(JobState(state) for state in dict.fromkeys(self.state))
        return JobFilter(states, self.queue, self.name, self.tag, self.since, self.until, self.search)

    def describe(self) -> str:
        """Return the criteria as text for a prompt: `failed, queue mail, since 2026-11-21 09:00:00 UTC`."""
        parts = [" or ".join(self.state)] if self.state else []
        for word in ("queue", "name", "tag", "search"):
            value = getattr(self, word)
            parts += [f"{word} {value}"] if value is not None else []
        parts += [f"since {clock(self.since)}"] if self.since else []
        parts += [f"until {clock(self.until)}"] if self.until else []
        return ", ".join(parts)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select jobs to a command, which receives them as `criteria: Criteria`."""

    @wraps(command)
    def with_criteria(**options: Any) -> Any:
        criteria = Criteria(**{field: options.pop(field) for field in Criteria.__slots__})
        return command(criteria=criteria, **options)

    for option in reversed(_OPTIONS):
        with_criteria = option(with_criteria)
    return with_criteria


_OPTIONS = (
    click.option(
        "--state",
        multiple=True,
        type=click.Choice([str(state) for state in JobState]),
        metavar="STATE",
        help=f"Jobs in this state; may be repeated. One of {', '.join(JobState)}.",
    ),
    click.option("--queue", metavar="QUEUE", help="Jobs in this queue."),
    click.option("--name", metavar="NAME", help="Jobs with this job name."),
    click.option("--tag", metavar="TAG", help="Jobs with this tag."),
    click.option(
        "--since", type=MOMENT, metavar="TIME", help="Enqueued at this time or later: 1h (ago), 2d or a time."
    ),
    click.option(
        "--until", type=MOMENT, metavar="TIME", help="Enqueued before this time: 1h (ago), 2d or a time."
    ),
    click.option(
        "--search",
        metavar="TEXT",
        help="Jobs with this text in arguments, result, errors, log lines, note, keys or tags.",
    ),
)
