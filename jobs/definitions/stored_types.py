"""Make a job type of its row, which may have been changed by hand."""

from collections.abc import Mapping
from typing import Any, Final

from callboard.jobs.model.basics.durations import LONGEST
from callboard.jobs.model.job import DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY
from callboard.jobs.model.job_type import JobType, UniqueRule
from callboard.jobs.model.unreadable import RowProblem

_TABLE: Final = "job_versions"
#: Ten years, the longest duration of an option. Seconds.
_MOST: Final = LONGEST.total_seconds()
_ON_CONFLICT: Final = ("existing", "replace", "reject")


def job_type_of(
    name: str, queue: str, schema: Any, defaults: Any, doc: str, module: str | None
) -> JobType | RowProblem:
    """Return the job type, or the problem that keeps it from being used.

    If an older version did not publish an option, it gets our default.
    """
    if not isinstance(schema, dict):
        return RowProblem(_TABLE, name, "schema", "a JSON object is expected")
    if not isinstance(defaults, dict):
        return RowProblem(_TABLE, name, "defaults", "a JSON object is expected")
    reason = _problem(defaults)
    if reason is not None:
        return RowProblem(_TABLE, name, "defaults", reason)
    unique = defaults.get("unique")
    return JobType(
        name=name,
        queue=queue,
        schema=schema,
        priority=defaults.get("priority", DEFAULT_PRIORITY),
        max_attempts=defaults.get("max_attempts", DEFAULT_MAX_ATTEMPTS),
        timeout=defaults.get("timeout"),
        doc=doc,
        hard_timeout=defaults.get("hard_timeout"),
        unique=None
        if unique is None
        else UniqueRule(by=tuple(unique["by"]), period=unique["period"], on_conflict=unique["on_conflict"]),
        limit_by=tuple(defaults.get("limit_by") or ()),
        module=module,
    )


def _problem(defaults: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the defaults; None when nothing is."""
    if defaults.get("priority", DEFAULT_PRIORITY) not in range(10):
        return "priority is a whole number from 0 to 9"
    attempts = defaults.get("max_attempts", DEFAULT_MAX_ATTEMPTS)
    if type(attempts) is not int or attempts < 1:
        return "max_attempts is a whole number, 1 or more"
    for name in ("timeout", "hard_timeout"):
        if not _is_span(defaults.get(name)):
            return f"{name} is a number of seconds or null"
    if not _are_names(defaults.get("limit_by") or []):
        return "limit_by is a list of names"
    unique = defaults.get("unique")
    if unique is not None and not _is_rule(unique):
        return "unique is null or an object with by, period and on_conflict"
    return None


def _is_rule(unique: Any) -> bool:
    return (
        isinstance(unique, dict)
        and _are_names(unique.get("by"))
        and "period" in unique
        and _is_span(unique["period"])
        and unique.get("on_conflict") in _ON_CONFLICT
    )


def _is_span(span: Any) -> bool:
    return span is None or (
        isinstance(span, int | float) and not isinstance(span, bool) and 0 <= span <= _MOST
    )


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
