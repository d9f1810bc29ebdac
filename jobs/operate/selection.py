"""Read the filter and the verb of a Python caller, as strictly as the command line and HTTP do."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.durations import parse_duration
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate.job_filter import JobFilter

_VERBS: Final = MappingProxyType({"cancel": Verb.CANCEL, "retry": Verb.RERUN, "delete": Verb.DELETE})
_TEXTS: Final = ("queue", "name", "tag", "search")
_MOMENTS: Final = ("since", "until")
_LONGEST: Final = 200


def bulk_verb(word: str) -> Verb:
    """Return the verb that `cancel`, `retry` or `delete` means. Raises InvalidInput."""
    if word not in _VERBS:
        raise InvalidInput(f"{word!r} is none of {', '.join(_VERBS)}", fields={"verb": "not one of them"})
    return _VERBS[word]


def bulk_filter(which: Mapping[str, Any], *, dry_run: bool) -> JobFilter:
    """Return the filter. Raises InvalidInput that names each bad key, or says that the filter is empty.

    An empty filter matches every job, so it is accepted for a dry run only.
    """
    given = {key: value for key, value in which.items() if value is not None}
    if not given and not dry_run:
        raise InvalidInput(
            "the filter is empty and means every job there is; name a state, a queue or a time"
        )
    problems: dict[str, str] = {}
    values: dict[str, Any] = {}
    for key, value in given.items():
        try:
            values["states" if key == "state" else key] = _read(key, value)
        except ValueError as error:
            problems[key] = str(error)
    if problems:
        raise InvalidInput("; ".join(f"{key}: {what}" for key, what in problems.items()), fields=problems)
    return JobFilter(**values)


def _read(key: str, value: Any) -> Any:
    if key == "state":
        states = [value] if isinstance(value, str) else value
        try:
            return tuple(dict.fromkeys(JobState(state) for state in states))
        except (TypeError, ValueError):
            raise ValueError(f"one of {', '.join(JobState)}, or several in a list, is expected") from None
    if key in _TEXTS:
        if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST or "\0" in value:
            raise ValueError(f"a text of 1 to {_LONGEST} characters is expected")
        return value
    if key in _MOMENTS:
        return _moment(value)
    raise ValueError(f"not a filter (there are state, {', '.join((*_TEXTS, *_MOMENTS))})")


def _moment(value: Any) -> datetime:
    """Return a time, given with its zone or as a duration before now. Raises ValueError."""
    try:
        if isinstance(value, str):
            value = parse_duration(value) if not value[:4].isdigit() else datetime.fromisoformat(value)
        if isinstance(value, timedelta):
            value = SYSTEM.now() - value
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(UTC)
    except (ValueError, OverflowError, InvalidInput):
        pass
    raise ValueError("a time with its zone, or a duration such as 1h, is expected")
