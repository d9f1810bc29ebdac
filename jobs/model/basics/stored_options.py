"""Check the stored options of a job, which may have been changed by hand."""

from typing import Any, Final

from callboard.jobs.model.basics.durations import LONGEST

_MOST: Final = LONGEST.total_seconds()


def options_problem(options: Any) -> str | None:
    """Return what is wrong with the stored options of a job; None when nothing is."""
    if options is None:
        return None
    if not isinstance(options, dict):
        return "a JSON object is expected"
    for name in ("min_backoff", "max_backoff"):
        bound = options.get(name)
        if bound is not None and not _is_bound(bound):
            return f"{name} is a number of seconds, from 0 to ten years"
    if not isinstance(options.get("message") or {}, dict):
        return "message is a JSON object"
    return None


def _is_bound(bound: Any) -> bool:
    return isinstance(bound, int | float) and not isinstance(bound, bool) and 0 <= bound <= _MOST
