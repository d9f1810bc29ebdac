"""Print JSON documents, tables and messages. Data goes to stdout, messages go to stderr."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from callboard.cli.console.text import iso, one_line
from callboard.jobs.model.basics.durations import exact_duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

#: The width of output that does not go to a terminal: wide enough that nothing is cut or folded.
_PIPE_WIDTH: Final = 10_000
_CARD_WIDTH: Final = 80
_GAP: Final = 2
#: A column is cut down to this width before another one moves to the second line.
_READABLE_WIDTH: Final = 12
#: A column is never cut below this width.
_MIN_COLUMN_WIDTH: Final = 6

_STATE_STYLES: Final = {
    "waiting": "bright_black",
    "scheduled": "magenta",
    "queued": "cyan",
    "running": "bold blue",
    "retrying": "yellow",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "bright_black",
    "quarantined": "bold red",
    "ok": "green",
    "live": "green",
    "active": "green",
    "warn": "yellow",
    "paused": "yellow",
    "draining": "yellow",
    "fail": "bold red",
    "lost": "bold red",
    "expired": "bright_black",
    "revoked": "bright_black",
    "ended": "bright_black",
    "fired": "green",
    "caught_up": "green",
    "skipped": "yellow",
    "missed": "yellow",
}


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON document. Times become ISO 8601 in UTC, durations become text such as `1m30s`."""
    import orjson

    from callboard.jobs.model.basics.exact_json import write

    click.echo(write(value, default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_PASSTHROUGH_DATETIME))


def print_json_line(value: Mapping[str, Any]) -> None:
    """Print one JSON document as one line, for a stream (NDJSON)."""
    import orjson

    from callboard.jobs.model.basics.exact_json import write

    click.echo(write(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME))


def print_items(items: Iterable[Mapping[str, Any]], next_cursor: str | None = None) -> None:
    """Print a list in the form that HTTP returns: `{"items": [...], "next_cursor": null}`."""
    print_json({"items": list(items), "next_cursor": next_cursor})


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return iso(value)
        case timedelta():
            return exact_duration(value)
        case _:
            return str(value)


def note(text: str) -> None:
    """Print a message for people on stderr, on one line."""
    click.echo(one_line(text), err=True)


def interactive() -> bool:
    """Return whether a question can be asked: stdin and stderr are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def require_consent(*, yes: bool) -> None:
    """Raise UsageError without a terminal and without `--yes`: nobody can be asked.

    A command that asks calls it first: a script without `--yes` fails on its first run.
    """
    if not yes and not interactive():
        raise click.UsageError("this needs --yes without a terminal, where nobody is asked; nothing was done")


def confirmed(question: str, *, yes: bool) -> bool:
    """Return whether to go on: `--yes`, or the answer on the terminal. Raise UsageError without both."""
    require_consent(yes=yes)
    if yes:
        return True
    if click.confirm(one_line(question), err=True):
        return True
    note("nothing was changed")
    return False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    wide:  the first to move to a second line below its row when the table is too wide
    cut:   shortened with an ellipsis when the table is too wide
    right: aligned to the right
    fold:  continued on the next line when the table is too wide
    """

    title: str
    wide: bool = False
    cut: bool = False
    right: bool = False
    fold: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence["str | Text"]], *, empty: str) -> None:
    """Print rows under their column titles, at most as wide as the terminal. No column is dropped.

    In a narrow terminal, columns that do not fit follow on a second line below each row. Without rows, print
    the message `empty` on stderr instead.
    """
    if not rows:
        note(empty)
        return
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    width = stdout_width()
    cells = [[_cell(value) for value in row] for row in rows]
    beside, below = _split(columns, cells, width)
    sizes = _widths([columns[at] for at in beside], [[line[at] for at in beside] for line in cells], width)
    parts: list[RenderableType] = []

    def add(line: "Sequence[Text]") -> None:
        row = Table.grid(padding=(0, _GAP, 0, 0))
        for at, size in zip(beside, sizes, strict=True):
            column = columns[at]
            row.add_column(
                width=size, no_wrap=not column.fold, overflow="fold" if column.fold else "ellipsis",
                justify="right" if column.right else "left",
            )  # fmt: skip
        row.add_row(*(line[at] for at in beside))
        parts.append(row)

    add([Text(column.title, style="bold") for column in columns])
    for line in cells:
        add(line)
        more = [
            Text.assemble(
                (columns[at].title.lower(), "bright_black"), " " if columns[at].title else "", line[at]
            )
            for at in below
            if line[at].plain not in {"", "-"}
        ]
        if more:
            parts.append(Padding(Text("  ").join(more), (0, 0, 0, _GAP)))
    print_rich(*parts)


def _split(
    columns: Sequence[Column], cells: "Sequence[Sequence[Text]]", width: int
) -> tuple[list[int], list[int]]:
    """Return which columns stand in the row, and which on the second line below it."""
    beside = list(range(len(columns)))
    needed = [
        min(size, _READABLE_WIDTH) if columns[at].cut or columns[at].fold else size
        for at, size in enumerate(_natural(columns, cells))
    ]
    while len(beside) > 1 and sum(needed[at] + _GAP for at in beside) - _GAP > width:
        beside.remove(next((at for at in reversed(beside) if columns[at].wide), beside[-1]))
    return beside, [at for at in range(len(columns)) if at not in beside]


def _natural(columns: Sequence[Column], cells: "Sequence[Sequence[Text]]") -> list[int]:
    return [
        max([len(column.title), *(line[at].cell_len for line in cells)]) for at, column in enumerate(columns)
    ]


def print_card(title: "Text", *parts: "RenderableType", subtitle: str = "") -> None:
    """Print a title and what belongs to it: in a box on a terminal, else plain, with nothing folded."""
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    if not sys.stdout.isatty():
        print_rich(title, *([Text(subtitle)] if subtitle else []), *parts)
        return
    print_rich(
        Panel(
            Group(*parts),
            title=Text.assemble(" ", title, " "), title_align="left",
            subtitle=f" {subtitle} " if subtitle else None, subtitle_align="left",
            box=box.ROUNDED, width=min(_CARD_WIDTH, stdout_width()), padding=(0, 2),
            border_style="bright_black",
        )
    )  # fmt: skip


def _widths(columns: Sequence[Column], cells: "Sequence[Sequence[Text]]", width: int) -> list[int]:
    """Return the width of each column: its longest cell, unless the table is then too wide.

    In a table that is too wide, the widest columns that may be cut or folded shrink.
    """
    sizes = _natural(columns, cells)
    shrinkable = [index for index, column in enumerate(columns) if column.cut or column.fold]
    excess = sum(sizes) + _GAP * (len(sizes) - 1) - width
    for _ in range(max(0, excess)):
        widest = max(shrinkable, key=lambda index: sizes[index], default=None)
        if widest is None or sizes[widest] <= _MIN_COLUMN_WIDTH:
            break
        sizes[widest] -= 1
    return sizes


def print_fields(fields: Sequence[tuple[str, Any]]) -> None:
    """Print labels and values, one pair a line. A value that is neither str nor rich Text becomes JSON."""
    from rich.table import Table
    from rich.text import Text

    from callboard.jobs.model.basics.exact_json import write

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bright_black", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in fields:
        text = value if isinstance(value, str | Text) else write(value).decode()
        grid.add_row(label, _cell(text))
    print_rich(grid)


def state_text(state: str, more: str = "") -> "Text":
    """Return a state in its colour, followed by `more`."""
    from rich.text import Text

    return Text(f"{state} {more}".rstrip(), style=_STATE_STYLES.get(state, ""))


def print_rich(*parts: "RenderableType", err: bool = False) -> None:
    """Print rich renderables, to stderr if `err`. Use colours only if `coloured` allows them."""
    stream = sys.stderr if err else sys.stdout
    click.echo(rich_text(*parts, stream=stream), err=err, color=coloured(stream))


def rich_text(*parts: "RenderableType", stream: TextIO) -> str:
    """Return rich renderables as text for this stream."""
    from rich.console import Console

    buffer = StringIO()
    console = Console(
        file=buffer,
        width=stdout_width(),
        force_terminal=coloured(stream),
        color_system="auto" if coloured(stream) else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(*parts, sep="\n")
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def coloured(stream: TextIO) -> bool:
    """Return whether to write colours: the stream is a terminal, and NO_COLOR is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def stdout_width() -> int:
    """Return the terminal's width, or a large width if stdout is not a terminal."""
    return shutil.get_terminal_size((80 if sys.stdout.isatty() else _PIPE_WIDTH, 24)).columns


def _cell(value: "str | Text") -> "Text":
    from rich.text import Text

    return value if isinstance(value, Text) else Text(one_line(value))
