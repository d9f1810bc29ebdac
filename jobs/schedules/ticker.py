"""The ticker: decides each tick of a schedule that is due, and enqueues its job."""

from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import CallboardError, Unavailable
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.postgres import server_clock
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.schedules import repository
from callboard.jobs.schedules.calendar import Calendar
from callboard.jobs.schedules.cron import spec_calendar
from callboard.jobs.schedules.schedule import Schedule, Tick

#: A tick that is decided within this time after its nominal time is on time.
ON_TIME: Final = timedelta(seconds=60)
#: At most this many schedules are decided in one transaction.
_SCHEDULES_AT_ONCE: Final = 100
#: At most this many late ticks of one schedule are visited.
_MAX_LATE_TICKS: Final = 10_000
#: At most this many missed ticks of one schedule get a row: the newest ones.
_MAX_MISSED_ROWS: Final = 100

log = structlog.get_logger(__name__)


class Ticker:
    """Decides the ticks that are due by the database's clock.

    One transaction writes the tick's row, its job and the schedule's next tick.
    """

    def __init__(self, database: Database, enqueue: Enqueue) -> None:
        self._database = database
        self._enqueue = enqueue

    def tick(self) -> list[Tick]:
        """Decide at most 100 schedules that are due. Several processes may call this at the same time."""
        return self._database.retrying(self._tick)

    def realign(self) -> int:
        """Correct schedules whose next tick is too late; return how many there were.

        The next tick is too late when the database's clock was ahead as it was set, and was set back since.
        The times between fire then as usual. Those that have fired are not repeated.
        """
        corrected, after = 0, ""
        while True:
            page = partial(self._realign, after=after)
            names, count = self._database.retrying(page)
            corrected += count
            if len(names) < _SCHEDULES_AT_ONCE:
                return corrected
            after = names[-1]

    def _realign(self, connection: Connection, after: str) -> tuple[list[str], int]:
        schedules = repository.lock_page(connection, after, _SCHEDULES_AT_ONCE)
        now, corrected = server_clock.server_time(connection), 0
        for schedule in schedules:
            if schedule.paused_at is None and (following := _too_late(schedule, now)) is not None:
                repository.advance(connection, schedule.id, next_fire_at=following, fired=None, job=None)
                log.info("schedule.realigned", schedule=schedule.name, next_fire_at=following.isoformat())
                corrected += 1
        return [schedule.name for schedule in schedules], corrected

    def _tick(self, connection: Connection) -> list[Tick]:
        decided: list[Tick] = []
        for schedule in repository.lock_due(connection, _SCHEDULES_AT_ONCE):
            try:
                with connection.begin_nested():
                    decided += self._decide(connection, schedule, server_clock.server_time(connection))
            except CallboardError as error:
                if isinstance(error, Unavailable):
                    raise
                # A schedule with an invalid rule stays due, and would block the schedules after it.
                repository.pause(connection, schedule.id)
                log.error(  # noqa: TRY400 - the reason is enough, no traceback needed
                    "schedule.unreadable", schedule=schedule.name, reason=error.message
                )
        for tick in decided:
            log.info(
                "schedule.ticked", schedule_id=str(tick.schedule_id), nominal_at=tick.nominal_at.isoformat(),
                result=tick.result, job_id=str(tick.job_id) if tick.job_id else None,
            )  # fmt: skip
        return decided

    def _decide(self, connection: Connection, schedule: Schedule, now: datetime) -> list[Tick]:
        calendar = spec_calendar(schedule.rule)
        due, following = _due(calendar, schedule.next_fire_at or now, now)
        missed = [Tick(schedule.id, nominal, "missed", "a later tick replaced it") for nominal in due[:-1]]
        latest = self._decide_latest(connection, schedule, due[-1], now)
        ticks = [*missed[-_MAX_MISSED_ROWS:], latest]
        for tick in ticks:
            repository.record(connection, tick)
        fired = latest.nominal_at if latest.job_id else None
        repository.advance(connection, schedule.id, next_fire_at=following, fired=fired, job=latest.job_id)
        return ticks

    def _decide_latest(
        self, connection: Connection, schedule: Schedule, nominal: datetime, now: datetime
    ) -> Tick:
        """Decide the latest tick that is due: enqueue its job, skip it, or miss it."""
        late = now - nominal
        window = schedule.catchup_window if schedule.catchup == "latest" else ON_TIME
        if late > max(window, ON_TIME):
            return Tick(schedule.id, nominal, "missed", "too late to catch up")
        if repository.ticked(connection, schedule.id, nominal):
            return Tick(schedule.id, nominal, "skipped", "already decided")
        if schedule.overlap == "skip":
            state = repository.last_state(connection, schedule)
            if state is not None and not state.is_terminal:
                return Tick(schedule.id, nominal, "skipped", f"job {schedule.last_job_id} is still {state}")
        job = self._enqueue_job(connection, schedule)
        return Tick(schedule.id, nominal, "caught_up" if late > ON_TIME else "fired", job_id=job)

    def _enqueue_job(self, connection: Connection, schedule: Schedule) -> UUID:
        # Unchecked: a tick must not be lost when no worker publishes its job type now. A later worker can run
        # the job.
        request = JobRequest(
            name=schedule.job, args=schedule.args, kwargs=schedule.kwargs, queue=schedule.queue,
            priority=schedule.priority, unchecked=True,
        )  # fmt: skip
        batch = self._enqueue.check(request, Source("schedule", schedule.name))
        return self._enqueue.within(connection, batch).ids[0]


def _too_late(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when the schedule fires next if that is before its `next_fire_at`; otherwise None."""
    try:
        following = spec_calendar(schedule.rule).next_after(now)
    except CallboardError:
        # The tick pauses a schedule with an invalid rule.
        return None
    if following is None or (schedule.next_fire_at is not None and schedule.next_fire_at <= following):
        return None
    return following


def _due(calendar: Calendar, first: datetime, now: datetime) -> tuple[list[datetime], datetime | None]:
    """Return the nominal times from `first` to `now`, oldest first, and the next one after them."""
    due, following = [first], calendar.next_after(first)
    while following is not None and following <= now and len(due) < _MAX_LATE_TICKS:
        due.append(following)
        following = calendar.next_after(following)
    if following is not None and following <= now:
        # Too many late ticks to visit: continue after now.
        following = calendar.next_after(now)
    return due, following
