"""The ticker: decides each tick of a schedule that is due, and enqueues its job."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import CallboardError, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.pauses import Pauses
from callboard.jobs.model.job import Source
from callboard.jobs.model.unreadable import RowProblem, Unreadable, quoted
from callboard.jobs.postgres import server_clock
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.failures import is_conflict, is_outage, is_stale
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.postgres.rows.ledger import LEDGER
from callboard.jobs.schedules import repository
from callboard.jobs.schedules.calendar import Calendar
from callboard.jobs.schedules.cron import spec_calendar
from callboard.jobs.schedules.problems import TABLE, hindrance, requested
from callboard.jobs.schedules.repository import RowVersion
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

    One transaction writes the tick's row, its job and the schedule's next tick. A schedule that cannot tick
    is logged. It is tried again at once when its row changes, else after growing pauses of up to a minute.
    """

    def __init__(self, database: Database, enqueue: Enqueue, *, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._enqueue = enqueue
        #: The rows that cannot tick.
        self._set_aside: Pauses[RowVersion] = Pauses(clock)

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
            if schedule.paused_at is not None or (following := _too_late(schedule, now)) is None:
                continue
            move = partial(_advance, connection, schedule, following)
            problem = _apart(connection, schedule, move)
            if problem is not None:
                LEDGER.report([problem])
                continue
            log.info("schedule.realigned", schedule=schedule.name, next_fire_at=following.isoformat())
            corrected += 1
        return [schedule.name for schedule in schedules], corrected

    def _tick(self, connection: Connection) -> list[Tick]:
        decided: list[Tick] = []
        for row, schedule in repository.lock_due(connection, _SCHEDULES_AT_ONCE, self._set_aside.waiting()):
            decide = partial(self._decide, connection, schedule, decided)
            problem = hindrance(schedule) or _apart(connection, schedule, decide)
            if problem is None:
                self._set_aside.worked(row)
            else:
                LEDGER.report([problem])
                self._set_aside.failed(row)
        for tick in decided:
            log.info(
                "schedule.ticked", schedule_id=str(tick.schedule_id), nominal_at=tick.nominal_at.isoformat(),
                result=tick.result, job_id=str(tick.job_id) if tick.job_id else None,
            )  # fmt: skip
        return decided

    def _decide(self, connection: Connection, schedule: Schedule, decided: list[Tick]) -> None:
        now = server_clock.server_time(connection)
        calendar = spec_calendar(schedule.rule)
        if isinstance(schedule.next_fire_at, Unreadable):
            # Nobody can tell which tick it stands for: go on with the next one.
            _advance(connection, schedule, calendar.next_after(now))
            return
        due, following = _due(calendar, schedule.next_fire_at or now, now)
        missed = [Tick(schedule.id, nominal, "missed", "a later tick replaced it") for nominal in due[:-1]]
        latest = self._decide_latest(connection, schedule, due[-1], now)
        ticks = [*missed[-_MAX_MISSED_ROWS:], latest]
        for tick in ticks:
            repository.record(connection, tick)
        fired = latest.nominal_at if latest.job_id else None
        repository.advance(connection, schedule.id, next_fire_at=following, fired=fired, job=latest.job_id)
        decided += ticks

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
        batch = self._enqueue.check(requested(schedule), Source("schedule", schedule.name))
        return self._enqueue.within(connection, batch).ids[0]


def _advance(connection: Connection, schedule: Schedule, following: datetime | None) -> None:
    """Set the next tick of a schedule that does not fire now."""
    repository.advance(connection, schedule.id, next_fire_at=following, fired=None, job=None)


def _apart(connection: Connection, schedule: Schedule, work: Callable[[], None]) -> RowProblem | None:
    """Run `work`, which is about one schedule. If its row does not allow it, undo it and return why."""
    try:
        with connection.begin_nested():
            work()
    except Exception as error:
        if isinstance(error, Unavailable) or is_outage(error) or is_conflict(error) or is_stale(error):
            raise
        # A row that somebody changed may hold anything. It must not keep the others from ticking.
        return RowProblem(TABLE, schedule.name, "rule", _reason(error))
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, CallboardError):
        return error.message
    return f"{type(error).__name__}: {quoted(str(getattr(error, 'orig', error)))}"


def _too_late(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when the schedule fires next if that is before its `next_fire_at`; otherwise None."""
    try:
        following = spec_calendar(schedule.rule).next_after(now)
    except Exception:  # noqa: BLE001 - the tick reports a schedule whose rule cannot be read
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
