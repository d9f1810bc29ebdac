"""What the demo shows: a line for each step, progress while it lasts, and the table of what ran."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

_WIDEST: Final = 96
_PLAIN_WIDTH: Final = 80
#: Without a terminal, progress is told this often.
_PLAIN_STEPS: Final = 4
_SECOND: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that has ended, and the door it came through. waited: from due to started; took: from there to its end."""

    door: str
    name: str
    state: str
    attempts: int
    waited: timedelta
    took: timedelta
    errors: tuple[str, ...]
    result: Any

    @classmethod
    def of(cls, door: str, job: dict[str, Any]) -> Self:
        """Read a job object of the HTTP API."""
        due, started, finished = (_instant(job[key]) for key in ("run_at", "started_at", "finished_at"))
        return cls(
            door=door,
            name=job["name"],
            state=job["state"],
            attempts=job["attempt"],
            waited=started - due if due and started else timedelta(),
            took=finished - started if started and finished else timedelta(),
            errors=tuple(f"{error['class']}: {error['message']}" for error in job["errors"]),
            result=job["result"],
        )


class Step:
    """What is going on; `done` is what the step's line says in the end."""

    def __init__(self, show: "Show", title: str, doing: str) -> None:
        self._show = show
        self.title = title
        self.doing = doing
        self.done = ""

    @contextmanager
    def progress(self, total: int, noun: str) -> Iterator["Bar"]:
        """Show how many of `total` are done while the block lasts."""
        if not self._show.live:
            yield PlainBar(self._show, total, noun)
            return
        columns = (
            TextColumn("  [cyan]{task.description:<13}[/]"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TaskProgressColumn(),
        )
        with Progress(*columns, console=self._show.console, transient=True, expand=True) as drawn:
            yield DrawnBar(drawn, drawn.add_task(self.title, total=total))


class Bar:
    """Progress of a step."""

    def set(self, done: int) -> None:
        """So many are done."""
        raise NotImplementedError


class DrawnBar(Bar):
    """A bar that moves."""

    def __init__(self, drawn: Progress, task: Any) -> None:
        self._drawn, self._task = drawn, task

    def set(self, done: int) -> None:
        self._drawn.update(self._task, completed=done)


class PlainBar(Bar):
    """A line for each quarter."""

    def __init__(self, show: "Show", total: int, noun: str) -> None:
        self._show, self._total, self._noun, self._told = show, total, noun, 0

    def set(self, done: int) -> None:
        quarter = done * _PLAIN_STEPS // self._total
        if self._told < quarter < _PLAIN_STEPS:
            self._told = quarter
            self._show.console.print(f"      {done:,} of {self._total:,} {self._noun}")


class Show:
    """Prints to the terminal, with colours and motion if it is one."""

    def __init__(self) -> None:
        sys.stdout.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
        plain = Console(highlight=False)
        self.live = plain.is_terminal and not plain.is_dumb_terminal
        width = min(plain.width, _WIDEST) if self.live else _PLAIN_WIDTH
        self.console = Console(highlight=False, width=width)

    def heading(self, title: str, text: str) -> None:
        self.console.print(f"\n  [bold]{title}[/]  [bright_black]{escape(text)}[/]\n")

    @contextmanager
    def step(self, title: str, doing: str) -> Iterator[Step]:
        """Show that something is going on, and in the end one line: what came of it, and how long it took."""
        step, begun = Step(self, title, doing), time.monotonic()
        spinner = self.console.status(f"[cyan]{title:<13}[/] {escape(doing)}", spinner="dots")
        try:
            if self.live:
                spinner.start()
            step.stop_spinner = spinner.stop  # type: ignore[attr-defined]
            yield step
        except BaseException:
            spinner.stop()
            self._line("✗", "bold red", title, step.doing, begun)
            raise
        spinner.stop()
        self._line("✓", "green", title, step.done or doing, begun)

    def _line(self, mark: str, style: str, title: str, text: str, begun: float) -> None:
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(width=3, justify="right")
        line.add_column(width=13, no_wrap=True)
        line.add_column(ratio=1, overflow="fold")
        line.add_column(width=7, justify="right", style="bright_black", no_wrap=True)
        took = timedelta(seconds=time.monotonic() - begun)
        line.add_row(Text(mark, style), Text(title, "bold"), Text(text), span(took))
        self.console.print(line)

    def table(self, ran: Sequence[Ran]) -> None:
        """What ran: a row for each door and job."""
        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold", expand=True)
        table.add_column("  DOOR", ratio=1, no_wrap=True)
        for title in ("JOB", "STATE"):
            table.add_column(title, no_wrap=True)
        for title in ("JOBS", "ATTEMPTS", "WAITED", "TOOK"):
            table.add_column(title, justify="right", no_wrap=True)
        for rows in _grouped(ran):
            first = rows[0]
            good = first.state == "succeeded"
            table.add_row(
                f"  {first.door}",
                first.name,
                Text(first.state, "green" if good else "bold red"),
                f"{len(rows):,}",
                str(max(row.attempts for row in rows)),
                span(median(row.waited for row in rows)),
                span(median(row.took for row in rows)),
            )
        self.console.print(table)

    def note(self, text: str) -> None:
        self.console.print(Text(f"  {text}", "bright_black"))

    def verdict(self, text: str, *, good: bool) -> None:
        self.console.print(Text(f"\n  {text}\n", "bold green" if good else "bold red"))


def _grouped(ran: Sequence[Ran]) -> list[list[Ran]]:
    groups: dict[tuple[str, str, str], list[Ran]] = {}
    for one in ran:
        groups.setdefault((one.door, one.name, one.state), []).append(one)
    return list(groups.values())


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def span(length: timedelta) -> str:
    """A measured span: `12 ms`, `2.4 s`."""
    seconds = length.total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < _SECOND else f"{seconds:.1f} s"
