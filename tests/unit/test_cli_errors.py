"""Errors become one line and an exit code; commands stay quick to start."""

import errno
import logging
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from callboard.cli.console.error_lines import exit_code, report
from callboard.cli.main import Program
from callboard.jobs import errors

CODES = {
    errors.CallboardError: 1,
    errors.InvalidInput: 2,
    errors.NotStorable: 2,
    errors.InvalidArguments: 2,
    errors.PayloadTooLarge: 2,
    errors.UnsupportedMediaType: 2,
    errors.UnknownJob: 3,
    errors.NotFound: 3,
    errors.Unauthorized: 4,
    errors.Forbidden: 4,
    errors.RateLimited: 4,
    errors.Conflict: 5,
    errors.JobUnsuccessful: 6,
    errors.Unavailable: 7,
    errors.Busy: 7,
    errors.SchemaMismatch: 7,
    errors.NotShown: 7,
    errors.Duplicate: 5,
    errors.WaitTimeout: 124,
}


def run(error: BaseException):
    @click.command(cls=Program)
    def program() -> None: ...

    @click.command()
    def fails() -> None:
        raise error

    program.get_command = lambda _ctx, _name: fails
    return CliRunner().invoke(program, ["fails"])


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(inner) for inner in kind.__subclasses__()))


def test_every_error_of_the_domain_has_its_exit_code():
    ours = {kind for kind in subclasses(errors.CallboardError) if kind.__module__ == "callboard.jobs.errors"}
    assert {kind: exit_code(kind("x")) for kind in ours} == CODES


@pytest.mark.parametrize("kind", CODES)
def test_an_error_is_one_line_on_stderr(kind):
    result = run(kind("first line\nand \x1b[31mmore"))
    assert (result.exit_code, result.stdout) == (CODES[kind], "")
    assert result.stderr == "error: first line and \\x1b[31mmore\n"


def test_a_defect_is_one_line_too():
    result = run(KeyError("x"))
    assert result.exit_code == 1
    assert result.stderr == "error: KeyError: 'x' (this is a defect; CALLBOARD_LOG_LEVEL=debug shows where)\n"


def test_at_level_debug_the_traceback_is_shown(monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    logging.getLogger().manager._clear_cache()
    result = run(KeyError("x"))
    assert "Traceback (most recent call last)" in result.stderr
    logging.getLogger().manager._clear_cache()


def test_an_interrupt_exits_with_130():
    result = run(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr.strip() == "error: interrupted"


def test_a_reader_that_has_gone_is_told_nothing(capsys):
    assert report(BrokenPipeError(errno.EPIPE, "Broken pipe")) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["job", "--help"], ["job", "enqueue", "--help"], ["up", "--help"]]
)
def test_help_imports_nothing_heavy(args):
    program = (
        "import sys\nfrom callboard.cli.main import cli\n"
        f"try: cli.main({args!r})\nexcept SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'pydantic', 'rich', 'redis', 'structlog', 'apscheduler', 'alembic', 'fastapi', 'dramatiq'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
