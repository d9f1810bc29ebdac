"""Faults of users' modules at import, in one sentence each: the error, the file and the line."""

import importlib
import signal
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from typing import Final

from callboard.jobs.attempts.error_text import runs_own_code
from callboard.jobs.attempts.users_code import UsersCodeFailed, bounded
from callboard.jobs.errors import CallboardError, InvalidInput
from callboard.jobs.model.basics.plain_text import class_path

#: The package `callboard`. A line of it is never shown as the cause.
_OURS: Final = f"{Path(__file__).parents[2]}/"
#: `import_module` is here. It is on the way to each fault, and alone when there is no such module.
_IMPORTING: Final = f"{Path(importlib.__file__).parent}/"
_INSTALLED: Final = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib")})
_MAX_TEXT: Final = 500
_MAX_NAME: Final = 200

#: A place in a source file: the file's name and the line.
Place = tuple[str, int]


@contextmanager
def naming_faults(what: str) -> Iterator[None]:
    """Run users' code in the block. Raises InvalidInput for whatever it raises, also SystemExit.

    Ctrl-C is passed on. A worker child handles SIGINT, so a KeyboardInterrupt there is the module's own.

    what: what failed, as the beginning of the message
    """
    try:
        yield
    except BaseException as error:  # a module that calls sys.exit() must not end the process unexplained
        if isinstance(error, KeyboardInterrupt) and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            raise
        raise InvalidInput(f"{what}: {described(error)}") from error


def described(error: BaseException) -> str:
    """Return the error's type, its text and the line of the user's code that raised it, on one line."""
    text = _text(error)
    told = (
        text
        if isinstance(error, CallboardError)
        else f"{class_path(type(error)).rpartition('.')[2][:_MAX_NAME]}: {text}".rstrip(": ")
    )
    where = _raised_at(error)
    return f"{told} ({located(where)})" if where else told


def most_relevant(places: Sequence[Place]) -> Place | None:
    """Return the place to look at, of a stack with the innermost call last.

    It is the innermost line of code that is neither ours nor installed; otherwise the innermost that is not
    ours and does not import. There is none if there is no such module.
    """
    foreign = [place for place in places if not place[0].startswith(("<frozen", _OURS, _IMPORTING))]
    own = [place for place in foreign if not place[0].startswith(_INSTALLED)]
    found = own or foreign
    return found[-1] if found else None


def located(place: Place) -> str:
    """Return a place as text. A file in the working directory is named relative to it."""
    file, line = place
    # A module may have removed the working directory.
    with suppress(OSError, ValueError):
        file = str(Path(file).relative_to(Path.cwd()))
    return f"{file}, line {line}"


def _raised_at(error: BaseException) -> Place | None:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return error.filename, error.lineno
    frames = walk_tb(error.__traceback__)
    return most_relevant([(frame.f_code.co_filename, line) for frame, line in frames])


def _text(error: BaseException) -> str:
    # A SyntaxError's own text ends with a place of another form.
    told = error.msg if isinstance(error, SyntaxError) else error
    try:
        # The error is the user's, and so is its __str__: it may exit, or never return.
        text = bounded(lambda: " ".join(str(told).split()), own_thread=runs_own_code(error))
    except UsersCodeFailed as failure:
        text = f"its text cannot be read ({failure})"
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} ..."
