"""Print jobs: a table of many, a card of one."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from callboard.cli.console.output import (
    Column,
    note,
    print_card,
    print_items,
    print_json,
    print_table,
    state_text,
)
from callboard.cli.console.text import ago, moment, one_line, span, visible
from callboard.cli.job.job_object import job_object
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.durations import exact_duration
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from callboard.jobs.operate.listing import JobPage

_BAR_WIDTH: Final = 20
#: JSON up to this length is shown on one line.
_ONE_LINE_LENGTH: Final = 56
#: A card shows at most this many lines of a JSON value, and of a traceback.
_MAX_JSON_LINES: Final = 24
_MAX_TRACEBACK_LINES: Final = 60
_COLUMNS: Final = (
    Column("ID"),
    Column("STATE"),
    Column("NAME", cut=True),
    Column("QUEUE", wide=True, cut=True),
    Column("ATTEMPT", wide=True, right=True),
    Column("WHEN"),
)


def print_jobs(page: "JobPage", *, as_json: bool) -> None:
    """Print a page of jobs."""
    if as_json:
        print_items([job_object(job) for job in page.items], page.next_cursor)
        return
    now = SYSTEM.now()
    rows = [
        (
            str(job.id),
            _state(job),
            job.name,
            job.queue,
            f"{job.attempt}/{job.max_attempts}",
            ago(_shown_time(job), now),
        )
        for job in page.items
    ]
    print_table(_COLUMNS, rows, empty="no jobs match")
    if page.next_cursor:
        note(f"next page: --cursor {page.next_cursor}")


def print_job_objects(jobs: Sequence[tuple[UUID, Job | None]]) -> None:
    """Print the jobs that a verb changed as JSON; a deleted job (None) is shown by its id alone."""
    print_items([{"id": str(job_id)} if job is None else job_object(job) for job_id, job in jobs])


def print_job(job: Job, *, as_json: bool, traceback: bool = False, ahead: bool = False) -> None:
    """Print one job, as JSON or as a card.

    traceback: add the tracebacks of its errors to the card.
    ahead:     a worker has claimed it, and not started it yet.
    """
    if as_json:
        print_json(job_object(job))
    else:
        _print_card(job, SYSTEM.now(), traceback=traceback, ahead=ahead)


def _shown_time(job: Job) -> datetime:
    if job.state in {JobState.SCHEDULED, JobState.RETRYING}:
        return job.run_at
    return job.finished_at or (job.started_at if job.state is JobState.RUNNING else None) or job.enqueued_at


def _state(job: Job) -> "Text":
    running = job.state is JobState.RUNNING and job.progress is not None
    return state_text(str(job.state), f"{(job.progress or 0) * 100:.0f}%" if running else "")


def _print_card(job: Job, now: datetime, *, traceback: bool, ahead: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="bright_black", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, value in _facts(job, now, ahead=ahead):
        facts.add_row(label, value if isinstance(value, Text) else Text(visible(value)))
    parts: list[RenderableType] = [facts]
    for heading, content in (("args", job.args), ("kwargs", job.kwargs), ("result", job.result)):
        if content not in ([], {}, None):
            line = _line(content)
            if len(line) <= _ONE_LINE_LENGTH:
                facts.add_row(heading, Text(line))
            else:
                parts += [_heading(heading), _block(content)]
    if job.errors:
        parts += [_heading("errors"), _errors(job, now, traceback=traceback)]
    print_card(Text.assemble((one_line(job.name), "bold"), "  ", state_text(str(job.state))), *parts)


def _facts(job: Job, now: datetime, *, ahead: bool) -> "list[tuple[str, str | Text]]":
    source = job.source if job.source_id is None else f"{job.source} ({job.source_id})"
    facts: list[tuple[str, str | Text]] = [
        ("id", str(job.id)),
        ("queue", f"{job.queue}, priority {job.priority}"),
        ("attempt", f"{job.attempt} of {job.max_attempts}" + _crashes(job)),
        ("enqueued", f"{moment(job.enqueued_at, now)}, by {source}"),
    ]
    if job.state in {JobState.SCHEDULED, JobState.RETRYING}:
        facts.append(("due", moment(job.run_at, now)))
    if job.started_at and ahead:
        facts.append(("claimed", f"{moment(job.started_at, now)}, not started yet"))
    elif job.started_at:
        waited = span(job.started_at - max(job.run_at, job.enqueued_at))
        facts.append(("started", f"{moment(job.started_at, now)}, waited {waited}"))
    if job.finished_at:
        ran = f", ran {span(job.finished_at - job.started_at)}" if job.started_at else ""
        facts.append(("finished", moment(job.finished_at, now) + ran))
    if job.progress_note or (job.progress is not None and job.state is not JobState.SUCCEEDED):
        facts.append(("progress", _progress(job)))
    for label, value in (
        ("timeout", exact_duration(job.timeout) if job.timeout else None),
        ("hard timeout", exact_duration(job.hard_timeout) if job.hard_timeout else None),
        ("expires", moment(job.expires_at, now) if job.expires_at else None),
        ("unique key", job.unique_key),
        ("limit key", job.limit_key),
        ("tags", ", ".join(job.tags) or None),
        ("put off", f"{job.put_off} times, {job.put_off_reason}" if job.put_off else None),
        ("worker", str(job.worker_id) if job.worker_id else None),
        ("cancel", moment(job.cancel_requested_at, now) if job.cancel_requested_at else None),
    ):
        if value is not None:
            facts.append((label, value))
    return facts


def _crashes(job: Job) -> str:
    return (
        f", its worker died {job.crash_count} times"
        if job.crash_count > 1
        else (", its worker died once" if job.crash_count else "")
    )


def _progress(job: Job) -> "Text":
    from rich.text import Text

    # The last progress of a job that succeeded is not how far it came.
    if job.progress is None or job.state is JobState.SUCCEEDED:
        return Text(visible(job.progress_note or ""))
    done = round(job.progress * _BAR_WIDTH)
    return Text.assemble(
        ("█" * done, "green"), ("░" * (_BAR_WIDTH - done), "bright_black"),
        f" {job.progress * 100:.0f}%  {one_line(job.progress_note or '')}",
    )  # fmt: skip


def _heading(text: str) -> "Text":
    from rich.text import Text

    return Text(f"\n{text}", style="bold")


def _line(value: Any) -> str:
    from callboard.jobs.model.basics.exact_json import write

    return visible(write(value).decode().replace('":', '": ').replace(',"', ', "'))


def _block(value: Any) -> "Text":
    import orjson
    from rich.text import Text

    from callboard.jobs.model.basics.exact_json import write

    lines = write(value, option=orjson.OPT_INDENT_2).decode().splitlines()
    return Text(visible(_first_lines(lines, _MAX_JSON_LINES)))


def _errors(job: Job, now: datetime, *, traceback: bool) -> "RenderableType":
    """Return a grid of the failed attempts: number, time, error class and message."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bright_black", justify="right", no_wrap=True)
    grid.add_column(style="bright_black", no_wrap=True)
    grid.add_column(overflow="fold")
    for entry in job.errors:
        message = Text.assemble(
            (visible(str(entry.get("class"))), "red"), f": {visible(str(entry.get('message')))}"
        )
        if traceback and entry.get("traceback"):
            message.append(f"\n{_tail(str(entry['traceback']))}\n", style="bright_black")
        grid.add_row(str(entry.get("attempt")), ago(_parsed_time(entry.get("at")), now), message)
    return grid


def _tail(traceback: str) -> str:
    """Return the last lines of a traceback: they name the error."""
    lines = traceback.rstrip().splitlines()
    return visible(
        "\n".join(lines if len(lines) <= _MAX_TRACEBACK_LINES else ["…", *lines[-_MAX_TRACEBACK_LINES:]])
    )


def _parsed_time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _first_lines(lines: Sequence[str], most: int) -> str:
    if len(lines) <= most:
        return "\n".join(lines)
    return "\n".join([*lines[:most], f"… {len(lines) - most} more lines; --json shows all"])
