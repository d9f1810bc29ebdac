"""Tables and colours."""

import io
import sys

import pytest

from callboard.cli.console.output import Column, coloured, print_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch, **env: str) -> Terminal:
    """Let stdout be a terminal of 40 columns from here on."""
    for key, value in {"COLUMNS": "40", "TERM": "xterm-256color", "NO_COLOR": "", **env}.items():
        monkeypatch.setenv(key, value)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


COLUMNS = (Column("ID"), Column("NAME", cut=True), Column("MORE", wide=True), Column("N", right=True))


def test_a_table_is_cut_where_it_may_be_and_fits(monkeypatch):
    screen = terminal(monkeypatch, NO_COLOR="1")
    rows = [("0123456789", "a long name that does not fit at all", "x", "1"), ("1", "b", "y", "22")]
    print_table(COLUMNS, rows, empty="")
    assert screen.getvalue().splitlines() == [
        "ID          NAME                MORE   N",
        "0123456789  a long name that …  x      1",
        "1           b                   y     22",
    ]


def test_columns_that_do_not_fit_stand_below_their_row(monkeypatch):
    screen = terminal(monkeypatch, NO_COLOR="1", COLUMNS="32")
    print_table(COLUMNS, [("0123456789", "a long name", "more to say", "1"), ("1", "b", "", "22")], empty="")
    assert screen.getvalue().splitlines() == [
        "ID          NAME          N",
        "0123456789  a long name   1",
        "  more more to say",
        "1           b            22",
    ]


def test_the_first_column_is_whole_however_narrow_the_terminal_is(monkeypatch):
    screen = terminal(monkeypatch, NO_COLOR="1", COLUMNS="12")
    print_table(COLUMNS, [("0123456789", "a long name", "x", "1")], empty="")
    lines = screen.getvalue().splitlines()
    assert lines[:2] == ["ID", "0123456789"]
    assert " ".join(" ".join(lines[2:]).split()) == "name a long name more x n 1"


def test_into_a_pipe_nothing_is_cut_and_nothing_is_coloured(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    print_table(COLUMNS, [("1", "n" * 150, "x", "1")], empty="")
    assert pipe.getvalue().splitlines()[1] == f"1   {'n' * 150}  x     1"


def test_a_terminal_has_colours_unless_it_wants_none(monkeypatch):
    screen = terminal(monkeypatch)
    print_table([Column("A")], [("x",)], empty="")
    assert "\x1b[" in screen.getvalue()
    assert not coloured(terminal(monkeypatch, NO_COLOR="1"))
    assert not coloured(terminal(monkeypatch, TERM="dumb"))
