"""What keeps a schedule from ticking that was changed by hand."""

from collections.abc import Callable, Mapping
from typing import Final

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import LONGEST
from callboard.jobs.model.request import JobRequest, job_request
from callboard.jobs.model.unreadable import RowProblem, quoted, unreadable_values
from callboard.jobs.schedules.cron import spec_calendar
from callboard.jobs.schedules.schedule import Schedule

TABLE: Final = "schedules"
#: The next tick is set anew from the rule; the other times are only shown.
_HARMLESS: Final = frozenset({"created_at", "next_fire_at", "last_fire_at", "paused_at"})
#: The columns of fields with other names in a request.
_COLUMNS: Final = {"name": "job"}
_KNOWN: Final = {
    "dst_gap": ("shift", "skip"),
    "overlap": ("skip", "allow_all"),
    "catchup": ("latest", "none"),
}


def requested(schedule: Schedule) -> JobRequest:
    """Return the request for the schedule's job. Raises InvalidInput, which names the column.

    Unchecked: a tick must not be lost when no worker publishes its job type now. A later worker can run the
    job.
    """
    return job_request(
        {
            "name": schedule.job, "args": schedule.args, "kwargs": schedule.kwargs, "queue": schedule.queue,
            "priority": schedule.priority, "unchecked": True,
        }
    )  # fmt: skip


def problems_of(schedule: Schedule) -> list[RowProblem]:
    """Return the problems of a schedule's row; those that are only shown come last."""
    found = unreadable_values(schedule)
    for check in (lambda: spec_calendar(schedule.rule), lambda: requested(schedule)):
        for column, reason in _refusal(check).items():
            found.setdefault(_COLUMNS.get(column, column), reason)
    for column, known in _KNOWN.items():
        if getattr(schedule, column) not in known:
            found.setdefault(column, f"one of {', '.join(known)} is expected")
    if not 0 <= schedule.catchup_window.total_seconds() <= LONGEST.total_seconds():
        found.setdefault("catchup_window", "between 0s and ten years is expected")
    ordered = sorted(found.items(), key=lambda item: item[0] in _HARMLESS)
    return [RowProblem(TABLE, schedule.name, column, reason) for column, reason in ordered]


def hindrance(schedule: Schedule) -> RowProblem | None:
    """Return the problem that keeps the schedule from ticking; None when it can tick."""
    first = next(iter(problems_of(schedule)), None)
    return None if first is None or first.column in _HARMLESS else first


def _refusal(check: Callable[[], object]) -> Mapping[str, str]:
    """Return why a check refuses the row, by column; empty when it does not."""
    try:
        check()
    except InvalidInput as error:
        return error.fields or {"rule": error.message}
    except Exception as error:  # noqa: BLE001 - a row may hold what no request can; the reason is shown
        return {"rule": f"{type(error).__name__}: {quoted(str(error))}"}
    return {}
