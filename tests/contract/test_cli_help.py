"""The help of every command is pinned: names and options that scripts rely on do not change by the way.

After a change that is meant: CALLBOARD_TEST_UPDATE=1 pytest tests/contract/test_cli_help.py
"""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from callboard.cli.main import cli

PINNED = Path(__file__).with_name("cli_help.txt")


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


def help_of(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(cli, [*path, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_every_help_is_what_was_agreed():
    text = "\n".join(f"$ {' '.join(('callboard', *path))} --help\n{help_of(path)}" for path in commands(cli))
    if os.environ.get("CALLBOARD_TEST_UPDATE"):
        PINNED.write_text(text)
    assert text == PINNED.read_text()


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_every_help_fits_eighty_columns_and_cuts_no_sentence(path):
    text = help_of(path)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "..." not in text.replace("[ARGS]...", "").replace("[ID]...", "")


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_every_option_and_command_says_what_it_does(path):
    command = cli
    for name in path:
        command = command.get_command(click.Context(command), name)
    assert command.help
    for option in command.params:
        assert isinstance(option, click.Argument) or option.help, option.name
