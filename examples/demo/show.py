"""Print the demo: a line for each step, with a progress bar while it runs, and a table of the jobs."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from statistics import median
from typing import Any, Final, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from callboard.jobs.model.basics.clock import SYSTEM
from examples.demo.ran import Ran

_MAX_WIDTH: Final = 96
_PLAIN_WIDTH: Final = 80
#: Without a terminal, a step's progress is printed at each of so many equal parts.
_PLAIN_PARTS: Final = 4
_TITLE: Final = 13
_SECOND: Final = 1.0


class Step:
    """A running step. `done`: the text of its line when it has ended."""

    def __init__(self, console: Console, drawn: Progress, task: TaskID) -> None:
        self.done = ""
        self._console, self._drawn, self._task = console, drawn, task
        self._printed_part = 0

    def progress(self, done: int, total: int, noun: str) -> None:
        """Show that `done` of `total` are done."""
        text = f"{done:,} of {total:,} {noun}"
        self._drawn.update(self._task, completed=done, total=total, doing=text)
        part = done * _PLAIN_PARTS // total
        if self._drawn.disable and self._printed_part < part < _PLAIN_PARTS:
            self._printed_part = part
            self._console.print(f"{'':{_TITLE + 6}}{text}")


class Show:
    """Prints to a stream; if it is a terminal, with colours and progress bars."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        cast("Any", stream).reconfigure(errors="replace", line_buffering=True)
        probe = Console(file=stream)
        self._live = probe.is_terminal and not probe.is_dumb_terminal
        width = min(probe.width, _MAX_WIDTH) if self._live else _PLAIN_WIDTH
        self._console = Console(file=stream, width=width, highlight=False)

    def heading(self, title: str, text: str) -> None:
        self._console.print(Text.assemble("\n  ", (title, "bold"), "  ", (text, "bright_black"), "\n"))

    @contextmanager
    def step(self, title: str, doing: str) -> Iterator[Step]:
        """Show a running step until the block ends, then one line with its result and duration."""
        started = SYSTEM.monotonic()
        drawn = Progress(
            TextColumn(" "),
            SpinnerColumn(style="cyan"),
            TextColumn(f"[bold]{title:<{_TITLE}}[/]"),
            TextColumn("{task.fields[doing]}", markup=False),
            BarColumn(bar_width=None),
            console=self._console,
            transient=True,
            expand=True,
            disable=not self._live,
        )
        step = Step(self._console, drawn, drawn.add_task(title, total=None, doing=doing))
        try:
            with drawn:
                yield step
        except BaseException:
            self._line(Text("✗", "bold red"), title, doing, started)
            raise
        self._line(Text("✓", "green"), title, step.done or doing, started)

    def _line(self, mark: Text, title: str, text: str, started: float) -> None:
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(width=3, justify="right")
        line.add_column(width=_TITLE, no_wrap=True, style="bold")
        line.add_column(ratio=1, overflow="fold")
        line.add_column(width=7, justify="right", style="bright_black", no_wrap=True)
        line.add_row(mark, title, Text(text), span(timedelta(seconds=SYSTEM.monotonic() - started)))
        self._console.print(line)

    def table(self, ran: Sequence[Ran]) -> None:
        """Print a table of the jobs, with a row for each door, job name and state."""
        table = Table(box=None, padding=(0, 1), header_style="bold", expand=True)
        table.add_column("  DOOR", ratio=1, no_wrap=True)
        for title in ("JOB", "STATE"):
            table.add_column(title, no_wrap=True)
        for title in ("JOBS", "ATTEMPTS", "WAITED", "TOOK"):
            table.add_column(title, justify="right", no_wrap=True)
        for rows in _grouped(ran):
            first = rows[0]
            table.add_row(
                f"  {first.door}",
                first.name,
                Text(first.state, "green" if first.succeeded else "bold red"),
                f"{len(rows):,}",
                str(max(row.attempts for row in rows)),
                _median(row.waited for row in rows),
                _median(row.took for row in rows),
            )
        self._console.print()
        self._console.print(table)
        self.say("\nWAITED is the time from due to started, TOOK from started to finished (medians).")

    def say(self, text: str, style: str = "bright_black") -> None:
        for line in text.splitlines():
            self._console.print(Text(f"   {line}" if line else "", style), soft_wrap=True)


def _grouped(ran: Sequence[Ran]) -> list[list[Ran]]:
    groups: dict[tuple[str, str, str], list[Ran]] = {}
    for one in ran:
        groups.setdefault((one.door, one.name, one.state), []).append(one)
    return list(groups.values())


def _median(lengths: Iterable[timedelta]) -> str:
    return span(timedelta(seconds=median(length.total_seconds() for length in lengths)))


def span(length: timedelta) -> str:
    """Return a measured duration: `12 ms`, `2.4 s`."""
    seconds = length.total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < _SECOND else f"{seconds:.1f} s"
