"""Schedules: made, listed, paused, resumed, deleted, and ticked.

The calendar itself (cron, daylight saving) is given in as a `Calendar`: the domain knows rows and instants.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import CallboardError, Unavailable
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.postgres import server_clock
from callboard.jobs.postgres.database import Database
from callboard.jobs.schedules import repository
from callboard.jobs.schedules.manage import Calendar, ReadCalendar, log
from callboard.jobs.schedules.schedule import Schedule, Tick

#: A tick that is decided this soon after its nominal time is on time.
ON_TIME: Final = timedelta(seconds=60)
_DUE_AT_ONCE: Final = 100
_LOOK_BACK: Final = 10_000
_MISSED_KEPT: Final = 100


class Ticker:
    """Decides what is due: one row per tick, its job and the next time, in one transaction on the database's clock."""

    def __init__(self, database: Database, enqueue: Enqueue, calendar: ReadCalendar) -> None:
        self._database = database
        self._enqueue = enqueue
        self._calendar = calendar

    def tick(self) -> list[Tick]:
        """Decide every schedule that is due; safe to run anywhere, any number of times at once."""
        return self._database.retrying(self._tick)

    def _tick(self, connection: Connection) -> list[Tick]:
        decided: list[Tick] = []
        for schedule in repository.lock_due(connection, _DUE_AT_ONCE):
            try:
                with connection.begin_nested():
                    decided += self._decide(connection, schedule, server_clock.server_time(connection))
            except CallboardError as error:
                if isinstance(error, Unavailable):
                    raise
                # It would be due for ever, and hold up whoever comes after it.
                repository.pause(connection, schedule.id)
                log.error("schedule.unreadable", schedule=schedule.name, reason=error.message)
        for tick in decided:
            log.info(
                "schedule.ticked", schedule_id=str(tick.schedule_id), nominal_at=tick.nominal_at.isoformat(),
                result=tick.result, job_id=str(tick.job_id) if tick.job_id else None,
            )  # fmt: skip
        return decided

    def _decide(self, connection: Connection, schedule: Schedule, now: datetime) -> list[Tick]:
        calendar = self._calendar(schedule.rule)
        due, following = _due(calendar, schedule.next_fire_at or now, now)
        missed = [Tick(schedule.id, nominal, "missed", "a later tick took its place") for nominal in due[:-1]]
        latest = self._latest(connection, schedule, due[-1], now)
        ticks = [*missed[-_MISSED_KEPT:], latest]
        for tick in ticks:
            repository.record(connection, tick)
        fired = latest.nominal_at if latest.job_id else None
        repository.advance(connection, schedule.id, next_fire_at=following, fired=fired, job=latest.job_id)
        return ticks

    def _latest(self, connection: Connection, schedule: Schedule, nominal: datetime, now: datetime) -> Tick:
        late = now - nominal
        window = schedule.catchup_window if schedule.catchup == "latest" else ON_TIME
        if late > max(window, ON_TIME):
            return Tick(schedule.id, nominal, "missed", "too late to catch up")
        if repository.ticked(connection, schedule.id, nominal):
            return Tick(schedule.id, nominal, "skipped", "decided before")
        if schedule.overlap == "skip":
            state = repository.last_state(connection, schedule)
            if state is not None and not state.is_terminal:
                return Tick(schedule.id, nominal, "skipped", f"job {schedule.last_job_id} is still {state}")
        job = self._job(connection, schedule)
        return Tick(schedule.id, nominal, "caught_up" if late > ON_TIME else "fired", None, job)

    def _job(self, connection: Connection, schedule: Schedule) -> UUID:
        # Unchecked: a job type that is gone for the moment must not lose a tick; a worker to come will know it.
        request = JobRequest(
            name=schedule.job, args=schedule.args, kwargs=schedule.kwargs, queue=schedule.queue,
            priority=schedule.priority, unchecked=True,
        )  # fmt: skip
        return self._enqueue.within(connection, [request], Source("schedule", schedule.name))[0].id


def _due(calendar: Calendar, first: datetime, now: datetime) -> tuple[list[datetime], datetime | None]:
    """The nominal times from `first` to now (the newest at the end), and the one that follows."""
    due, following = [first], calendar.next_after(first)
    while following is not None and following <= now and len(due) < _LOOK_BACK:
        due.append(following)
        following = calendar.next_after(following)
    if following is not None and following <= now:
        # More than can be walked: go on from now.
        following = calendar.next_after(now)
    return due, following
