"""Make jobs of their rows. What somebody changed by hand and does not fit is left out and reported."""

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Row

from callboard.jobs.model.basics.durations import LONGEST
from callboard.jobs.model.basics.stored_options import options_problem
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from callboard.jobs.model.unreadable import RowProblem, unreadable_values
from callboard.jobs.postgres.rows.ledger import LEDGER

_ZERO: Final = timedelta(0)
_SPANS: Final = ("timeout", "hard_timeout")
_NAMES: Final = [field.name for field in fields(Job)]
_STATE_AT: Final = _NAMES.index("state")
#: The fields of an entry of `errors`, and their types.
_ENTRY: Final = {"attempt": int, "at": str, "class": str, "message": str, "traceback": str}


def job_of(row: Row[Any]) -> Job:
    """Make a job of a row, whose columns are the fields of Job."""
    job = plain_job(row)
    problems = problems_of(job)
    if not problems:
        return job
    LEDGER.report(problems)
    readable: dict[str, Any] = {
        "args": job.args if isinstance(job.args, list) else [],
        "kwargs": job.kwargs if isinstance(job.kwargs, dict) else {},
        "errors": [one for one in job.errors if _is_entry(one)] if isinstance(job.errors, list) else [],
        "tags": [tag for tag in job.tags if isinstance(tag, str)],
        **{name: None for name in _SPANS if any(one.column == name for one in problems)},
        "options": None if options_problem(job.options) else job.options,
    }
    return replace(job, **readable)


def plain_job(row: Row[Any]) -> Job:
    """Make a job of a row as it is."""
    values: list[Any] = list(row)
    values[_STATE_AT] = JobState(values[_STATE_AT])
    return Job(*values)


def problems_of(job: Job) -> list[RowProblem]:
    """Return the problems of a job's row."""
    found = unreadable_values(job)
    for name in _SPANS:
        span = getattr(job, name)
        if span is not None and not _ZERO <= span <= LONGEST:
            found.setdefault(name, "between 0s and ten years is expected")
    checks = (
        ("args", isinstance(job.args, list), "a JSON array that can be read is expected"),
        ("kwargs", isinstance(job.kwargs, dict), "a JSON object that can be read is expected"),
        (
            "errors",
            isinstance(job.errors, list) and all(map(_is_entry, job.errors)),
            f"a JSON array of objects with {', '.join(_ENTRY)} is expected",
        ),
        ("tags", all(isinstance(tag, str) for tag in job.tags), "an array of texts is expected"),
    )
    found |= {column: reason for column, fits, reason in checks if not fits}
    reason = options_problem(job.options)
    if reason is not None:
        found["options"] = reason
    return [RowProblem("jobs", str(job.id), column, text) for column, text in found.items()]


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name, kind()), kind) for name, kind in _ENTRY.items()
    )
