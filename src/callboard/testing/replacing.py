"""Replace attributes for the time of a block."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

_MISSING: Final = object()


class Replacement(NamedTuple):
    """An attribute of a class or a module, and what stands in its place."""

    owner: Any
    name: str
    value: Any


@contextmanager
def replaced(*replacements: Replacement) -> Iterator[None]:
    """Replace attributes for the time of the block."""
    with ExitStack() as undo:
        for owner, name, value in replacements:
            undo.callback(_put, owner, name, vars(owner).get(name, _MISSING))
            setattr(owner, name, value)
        yield


def _put(owner: Any, name: str, value: Any) -> None:
    if value is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
