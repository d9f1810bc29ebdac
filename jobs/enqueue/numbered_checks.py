"""Checks of several requests at once: an error names the request."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from callboard.jobs.errors import CallboardError, InvalidInput

T = TypeVar("T")
R = TypeVar("R")


def check_names(kwargs: object) -> None:
    """Raise InvalidInput unless these are named arguments: a mapping whose keys are text."""
    if type(kwargs) is not dict or not all(type(name) is str for name in kwargs):
        problem = "a mapping whose keys are text is expected"
        raise InvalidInput(f"kwargs: {problem}", fields={"kwargs": problem})


def numbered(items: Sequence[T], check: Callable[[T], R]) -> list[R]:
    """Check every item. An error begins with the item's place: `jobs[3]: `."""
    checked = []
    for index, item in enumerate(items):
        try:
            checked.append(check(item))
        except CallboardError as error:
            fields = {f"jobs[{index}].{path}": problem for path, problem in error.fields.items()}
            raise type(error)(f"jobs[{index}]: {error.message}", fields=fields) from None
    return checked
