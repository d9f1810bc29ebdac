"""The options that choose jobs, the same for `job list` and for the verbs by filter."""

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
    """The jobs that a command was asked for: those that fit everything that is set."""

    state: tuple[str, ...] = ()
    queue: str | None = None
    name: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None

    @property
    def given(self) -> bool:
        return self != Criteria()

    def filter(self) -> "JobFilter":
        from callboard.jobs.operate.job_filter import JobFilter

        states = tuple(JobState(state) for state in dict.fromkeys(self.state))
        return JobFilter(states, self.queue, self.name, self.tag, self.since, self.until, self.search)

    def words(self) -> str:
        """The criteria in words, for a question: `failed, queue mail, since 2026-11-21 09:00:00 UTC`."""
        parts = [" or ".join(self.state)] if self.state else []
        for word in ("queue", "name", "tag", "search"):
            value = getattr(self, word)
            parts += [f"{word} {value}"] if value is not None else []
        parts += [f"since {clock(self.since)}"] if self.since else []
        parts += [f"until {clock(self.until)}"] if self.until else []
        return ", ".join(parts)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that choose jobs; it gets them as `which: Criteria`."""

    @wraps(command)
    def gathered(**options: Any) -> Any:
        which = Criteria(**{field: options.pop(field) for field in Criteria.__slots__})
        return command(which=which, **options)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


_OPTIONS = (
    click.option(
        "--state",
        multiple=True,
        type=click.Choice([str(state) for state in JobState]),
        metavar="STATE",
        help=f"Of this state; may be given more than once. One of {', '.join(JobState)}.",
    ),
    click.option("--queue", metavar="QUEUE", help="In this queue."),
    click.option("--name", metavar="NAME", help="Of this job."),
    click.option("--tag", metavar="TAG", help="With this tag."),
    click.option("--since", type=MOMENT, metavar="TIME", help="Enqueued since then: 1h, 2d or a time."),
    click.option("--until", type=MOMENT, metavar="TIME", help="Enqueued before then: 1h, 2d or a time."),
    click.option("--search", metavar="TEXT", help="With this text in arguments, errors or note."),
)
