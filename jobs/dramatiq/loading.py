"""Loads the Dramatiq middleware that the setting CALLBOARD_MIDDLEWARE names."""

from collections.abc import Iterable
from importlib import import_module
from operator import attrgetter

from dramatiq.middleware import Middleware

from callboard.jobs.dramatiq.import_faults import naming_faults
from callboard.jobs.errors import InvalidInput


def load_middleware(names: Iterable[str]) -> list[Middleware]:
    """Import middleware by name (`module:attribute`), in this order. A class is called without arguments.

    Raises InvalidInput, which names the wrong entry and the reason.
    """
    return [_load(name) for name in names]


def _load(name: str) -> Middleware:
    module, _, attribute = name.partition(":")
    with naming_faults(f"CALLBOARD_MIDDLEWARE: {name!r} cannot be loaded"):
        found = attrgetter(attribute)(import_module(module))
        made = found() if isinstance(found, type) else found
    if not isinstance(made, Middleware):
        raise InvalidInput(
            f"CALLBOARD_MIDDLEWARE: {name!r} is not middleware"
            " (a subclass of dramatiq.Middleware, or an instance of one)"
        )
    return made
