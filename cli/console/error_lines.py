"""Turn an error into one line on stderr and an exit code that scripts can rely on."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

from callboard.cli.console.text import one_line
from callboard.jobs.errors import (
    CallboardError,
    Conflict,
    Forbidden,
    InvalidInput,
    JobUnsuccessful,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    Unauthorized,
    Unavailable,
    UnknownJob,
    UnsupportedMediaType,
    WaitTimeout,
)

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
NOT_ALLOWED: Final = 4
CONFLICT: Final = 5
UNSUCCESSFUL: Final = 6
UNAVAILABLE: Final = 7
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130
TERMINATED: Final = 143

#: The exit code of each error class. A class that is not listed has the code of its nearest base class.
EXIT_CODES: Final[Mapping[type[BaseException], int]] = MappingProxyType(
    {
        CallboardError: FAILED,
        InvalidInput: USAGE,
        PayloadTooLarge: USAGE,
        UnsupportedMediaType: USAGE,
        UnknownJob: NOT_FOUND,
        NotFound: NOT_FOUND,
        Unauthorized: NOT_ALLOWED,
        Forbidden: NOT_ALLOWED,
        RateLimited: NOT_ALLOWED,
        Conflict: CONFLICT,
        JobUnsuccessful: UNSUCCESSFUL,
        Unavailable: UNAVAILABLE,
        WaitTimeout: TIMED_OUT,
        click.UsageError: USAGE,
        click.ClickException: FAILED,
        click.Abort: INTERRUPTED,
        KeyboardInterrupt: INTERRUPTED,
    }
)


def exit_code(error: BaseException) -> int:
    """Return the exit code for this error."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), FAILED)


def report(error: BaseException) -> int:
    """Print the error on stderr and return its exit code.

    A closed stdout pipe is not printed: the reader ended the command on purpose. At log level debug the
    traceback is printed too.
    """
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        _silence_stdout()
        return FAILED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return USAGE
    if logging.getLogger().isEnabledFor(logging.DEBUG) and not isinstance(error, click.ClickException):
        traceback.print_exception(error, file=sys.stderr)
    print_error(error)
    return exit_code(error)


def print_error(error: BaseException) -> None:
    """Print the error on stderr as one line."""
    label = click.style("error:", fg="red", bold=True)
    colour = None if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else False
    click.echo(f"{label} {one_line(message_of(error))}", err=True, color=colour)


def message_of(error: BaseException) -> str:
    """Return the error's message for people. An unexpected error is called a defect."""
    match error:
        case CallboardError():
            return error.message
        case click.UsageError():
            return _usage(error)
        case click.ClickException():
            return error.format_message()
        case click.Abort() | KeyboardInterrupt():
            return "interrupted"
        case OSError():
            return str(error)
        case _:
            text = str(error).strip().partition("\n")[0]
            return (
                f"{type(error).__name__}: {text}" if text else type(error).__name__
            ) + " (this is a defect; CALLBOARD_LOG_LEVEL=debug shows where)"


def _usage(error: click.UsageError) -> str:
    text = error.format_message().strip().removesuffix(".").replace(". Did you", "; did you")
    # click starts its messages with a capital letter; ours start in lower case after "error: "
    text = text[:1].lower() + text[1:]
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        return text
    path = error.ctx.command_path if error.ctx else "callboard"
    return f"{text} (see '{path} --help')"


def _silence_stdout() -> None:
    """Send all further output to /dev/null, also Python's flush at exit, because the pipe is closed."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        # a replaced stdout without a file descriptor has no pipe
        return
