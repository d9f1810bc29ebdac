"""The places where jobs are declared, to refuse a second function that takes the name of another job.

Dramatiq refuses every second declaration of a name, also that of a module that is loaded again, and does not
say where the first one is.
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import dramatiq

from callboard.jobs.errors import InvalidInput

#: The main module of a program, and its copy in a process that multiprocessing starts.
_MAIN: Final = ("__main__", "__mp_main__")
_LIBRARIES: Final = ("dramatiq.", "callboard.")


class JobNameTaken(InvalidInput, ValueError):
    """Another function has the name of this job. Dramatiq raises a ValueError for it."""

    stored_as = "JobNameTaken"


class ActorsByName(dict[str, "dramatiq.Actor[..., Any]"]):
    """The actors of a broker. A new actor finds no other one of its name: `Declarations` compares them."""

    def __contains__(self, name: object) -> bool:
        caller = sys._getframe(1).f_code  # noqa: SLF001 - documented, despite its name
        return caller is not _NEW_ACTOR and super().__contains__(name)


_NEW_ACTOR: Final = dramatiq.Actor.__init__.__code__


class SourceLine(NamedTuple):
    """A line of a module's source."""

    module: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"module {self.module} ({self.file}, line {self.line})"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A job's function, where it is written, and where it was made a job.

    loads: the specs of both modules. A module that is imported again has a new one.
    """

    function: Callable[..., Any]
    written: SourceLine
    declared: SourceLine
    loads: tuple[object, object]

    def replaces(self, earlier: "Declaration") -> bool:
        """Return whether this is the earlier declaration again, and not a second job of the same name."""
        if self.function is earlier.function:
            return True
        if self.declared.module == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
            # A person types and corrects the function in an interactive session.
            return True
        if self.declared.module in _MAIN or earlier.declared.module in _MAIN:
            # The main program is imported a second time under its own name.
            return self.declared[1:] == earlier.declared[1:]
        if (self.written.module, self.declared.module) != (earlier.written.module, earlier.declared.module):
            return False
        loaded_again = any(now is not before for now, before in zip(self.loads, earlier.loads, strict=True))
        return loaded_again or (self.written, self.declared) == (earlier.written, earlier.declared)


@dataclass(slots=True)
class Declarations:
    """The declarations of one broker, by the job's name."""

    _known: dict[str, Declaration] = field(default_factory=dict)

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """Record a job. Raises JobNameTaken, which names both places, if another function has its name."""
        new, earlier = _declaration(function), self._known.get(name)
        if earlier is not None and not new.replaces(earlier):
            raise JobNameTaken(_problem(name, earlier, new))
        self._known[name] = new


def _problem(name: str, earlier: Declaration, new: Declaration) -> str:
    if new.written[1:] == earlier.written[1:] and new.written.module != earlier.written.module:
        return (
            f"the job {name!r} is defined twice, because one file is imported under two names:"
            f" in {earlier.written} and in {new.written}; import it under one name everywhere, also in"
            " CALLBOARD_JOBS"
        )
    places = [one.declared if new.written == earlier.written else one.written for one in (earlier, new)]
    return (
        f"two jobs have the name {name!r}: in {places[0]} and in {places[1]};"
        " give one of them another name, such as @job(name=...) or @dramatiq.actor(actor_name=...)"
    )


def _declaration(function: Callable[..., Any]) -> Declaration:
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_LIBRARIES):
        frame = frame.f_back
    facts: dict[str, Any] = {} if frame is None else frame.f_globals
    module = facts.get("__name__", "?")
    declared = SourceLine(module, "?", 0)
    if frame is not None:
        declared = SourceLine(module, frame.f_code.co_filename, frame.f_lineno)
    written = _written(function) or declared
    spec = getattr(sys.modules.get(written.module), "__spec__", None)
    return Declaration(function, written, declared, (spec, facts.get("__spec__")))


def _written(function: Callable[..., Any]) -> SourceLine | None:
    """Return where a function is written; None for a callable that has no code of its own."""
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    code = getattr(inner, "__code__", None)
    if code is None:
        return None
    return SourceLine(getattr(inner, "__module__", None) or "?", code.co_filename, code.co_firstlineno)
