"""`callboard job logs`: show what a job logged, by attempt; with --follow, also new lines as they come."""

import sys
import textwrap
from collections.abc import Iterable, Iterator
from threading import Event
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from callboard.cli.console.options import ID, json_option
from callboard.cli.console.output import coloured, note, print_items, print_json_line, stdout_width
from callboard.cli.console.text import visible

if TYPE_CHECKING:
    from callboard.jobs.attempts.log_line import JobLogLine
    from callboard.jobs.platform import Platform

_MAX_LINES: Final = 20_000
_MAX_ATTEMPT: Final = 2**31 - 1
_INDENT: Final = 10
_MIN_TEXT_WIDTH: Final = 40
_STYLES: Final = {"warning": "yellow", "error": "red", "critical": "red"}


@click.command()
@click.argument("job_id", metavar="ID", type=ID)
@click.option("--attempt", type=click.IntRange(1, _MAX_ATTEMPT), metavar="N", help="Show only this attempt.")
@click.option("--follow", "-f", is_flag=True, help="Print new lines until the job ends.")
@click.option(
    "--limit", type=click.IntRange(1, _MAX_LINES), metavar="N", help="Start with the newest N lines."
)
@json_option
def logs(*, job_id: UUID, attempt: int | None, follow: bool, limit: int | None, as_json: bool) -> None:
    """Show what a job logged.

    The newest 1,000 lines of each attempt are kept. Times are in UTC.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        platform = runtime.platform
        before = platform.job_logs.newest(job_id, attempt=attempt, limit=limit or _MAX_LINES)
        if as_json and not follow:
            print_items(map(line_object, before))
            return
        lines = _following(platform, job_id, attempt, before) if follow else iter(before)
        if as_json:
            for line in lines:
                print_json_line(line_object(line))
        elif not _print(lines):
            note(f"job {job_id} has logged nothing" + (f" in attempt {attempt}" if attempt else ""))


def line_object(line: "JobLogLine") -> dict[str, Any]:
    """Return a log line's fields for JSON output. They are the fields that HTTP returns."""
    return {
        "attempt": line.attempt,
        "epoch": line.epoch,
        "line": line.line,
        "logged_at": line.logged_at,
        "level": line.level,
        "logger": line.logger,
        "message": line.message,
    }


def _following(
    platform: "Platform", job_id: UUID, attempt: int | None, before: "list[JobLogLine]"
) -> "Iterator[JobLogLine]":
    yield from before
    ended = Event()
    with platform.waiting.listen(job_id, ended.set):
        yield from platform.job_logs.follow(
            job_id, before[-1] if before else None, attempt=attempt, wait=ended.wait
        )


def _print(lines: "Iterable[JobLogLine]") -> int:
    """Print lines as they come, with a heading for each attempt and day. Return the number of lines.

    An attempt that started more than once, because its worker died or stopped, has a heading for each start.
    """
    heading, printed = None, 0
    width = stdout_width() if sys.stdout.isatty() else None
    for printed, line in enumerate(lines, 1):  # noqa: B007 - the count is the result
        day = f"{line.logged_at:%Y-%m-%d}"
        if heading != (line.epoch, day):
            _echo(click.style(f"attempt {line.attempt} · {day} UTC", dim=True))
            heading = (line.epoch, day)
        _echo(folded(line, width))
    return printed


def folded(line: "JobLogLine", width: int | None) -> str:
    """Return a log line for people: its time and text, folded to `width` columns, later rows indented."""
    text = visible(line.message)
    if line.level not in {"info", "debug"}:
        text = f"{line.level}: {text}"
    rows = text.splitlines() or [""]
    if width is not None:
        room = max(width - _INDENT, _MIN_TEXT_WIDTH)
        rows = [part for row in rows for part in textwrap.wrap(row, room) or [""]]
    time = click.style(f"{line.logged_at:%H:%M:%S}", dim=True)
    first = click.style(rows[0], fg=_STYLES.get(line.level))
    return "\n".join([f"{time}  {first}", *(" " * _INDENT + row if row else "" for row in rows[1:])])


def _echo(text: str) -> None:
    click.echo(text, color=coloured(sys.stdout))
