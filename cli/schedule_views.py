"""Print schedules, their ticks and the times of a preview."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

from callboard.cli.console.output import Column, print_fields, print_items, print_table, state_text
from callboard.cli.console.text import ago, clock, moment
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.durations import exact_duration

if TYPE_CHECKING:
    from callboard.jobs.schedules.schedule import Schedule, Tick

_COLUMNS: Final = (
    Column("NAME", cut=True),
    Column("STATE"),
    Column("JOB", cut=True),
    Column("WHEN", cut=True),
    Column("LAST"),
    Column("NEXT"),
)
_TICKS: Final = (Column("NOMINAL"), Column("RESULT"), Column("JOB"), Column("REASON", cut=True))
_FIRES: Final = (Column("LOCAL"), Column("UTC"), Column(""))


def schedule_object(schedule: "Schedule") -> dict[str, Any]:
    """Return a schedule's fields for JSON output."""
    return asdict(schedule)


def print_schedules(schedules: "Sequence[Schedule]", *, as_json: bool) -> None:
    """Print schedules as JSON or as a table."""
    if as_json:
        print_items(schedule_object(each) for each in schedules)
        return
    now = SYSTEM.now()
    rows = [
        (
            each.name,
            state_text(_state(each)),
            each.job,
            _rule(each),
            ago(each.last_fire_at, now) or "never",
            ago(each.next_fire_at, now),
        )
        for each in schedules
    ]
    print_table(
        _COLUMNS, rows, empty="there are no schedules yet; create one with 'callboard schedule create'"
    )


def print_schedule(schedule: "Schedule") -> None:
    """Print one schedule, one field per line."""
    from callboard.jobs.schedules.problems import problems_of

    now = SYSTEM.now()
    fields: list[tuple[str, Any]] = [
        ("name", schedule.name),
        *(("unreadable", f"{one.column}: {one.reason}") for one in problems_of(schedule)),
        ("state", state_text(_state(schedule))),
        ("job", schedule.job),
        ("when", _rule(schedule)),
        ("next", moment(schedule.next_fire_at, now)),
        ("last", moment(schedule.last_fire_at, now)),
        ("last job", str(schedule.last_job_id) if schedule.last_job_id else "-"),
        ("queue", schedule.queue or "the job's own"),
        *([("dst gap", schedule.dst_gap)] if schedule.cron else []),
        ("overlap", schedule.overlap),
        ("catchup", f"{schedule.catchup}, within {exact_duration(schedule.catchup_window)}"),
    ]
    if schedule.args or schedule.kwargs:
        fields.append(("args", schedule.kwargs or schedule.args))
    print_fields(fields)


def print_ticks(ticks: "Sequence[Tick]", *, as_json: bool) -> None:
    """Print ticks and their results as JSON or as a table."""
    if as_json:
        print_items(
            {
                "nominal_at": each.nominal_at,
                "result": each.result,
                "reason": each.reason,
                "job_id": each.job_id,
            }
            for each in ticks
        )
        return
    rows = [
        (clock(each.nominal_at), state_text(each.result), str(each.job_id or "-"), each.reason or "")
        for each in ticks
    ]
    print_table(_TICKS, rows, empty="the schedule has not ticked yet")


def print_fires(fires: Sequence[datetime], zone: tzinfo) -> None:
    """Print the times at which a schedule fires, in its own time zone and in UTC."""
    now = SYSTEM.now()
    rows = [
        (each.astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z"), clock(each), ago(each, now))
        for each in fires
    ]
    print_table(_FIRES, rows, empty="the expression does not fire after this time")


def _state(schedule: "Schedule") -> str:
    # The calendars need APScheduler, which other commands do not.
    from callboard.jobs.schedules.problems import hindrance

    if schedule.paused_at:
        return "paused"
    if hindrance(schedule) is not None:
        return "unreadable"
    return "active" if schedule.next_fire_at else "ended"


def _rule(schedule: "Schedule") -> str:
    if schedule.cron is not None:
        return schedule.cron if schedule.timezone == "UTC" else f"{schedule.cron} ({schedule.timezone})"
    if schedule.every is not None:
        return f"every {exact_duration(schedule.every)}"
    return f"once at {clock(schedule.at)}" if schedule.at else ""
