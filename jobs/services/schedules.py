"""Schedules: made, listed, paused, resumed, deleted, and ticked.

The calendar itself (cron, daylight saving) is given in as a `Calendar`: the domain knows rows and instants.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Protocol, Self
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from jobs.database import Database
from jobs.errors import CallboardError, Conflict, InvalidInput, NotFound, Unavailable
from jobs.ids import new_id
from jobs.records import ScheduleRule, Source
from jobs.repositories import job_queries, schedules
from jobs.repositories.schedules import Schedule, Tick
from jobs.requests import Duration, Handle, Instant, JobName, JobRequest, QueueName, invalid_input
from jobs.services.enqueue import Enqueue

log = structlog.get_logger(__name__)


class Calendar(Protocol):
    """The instants of one schedule."""

    def next_after(self, instant: datetime) -> datetime | None:
        """The first tick strictly after this instant; None when there is no more."""
        ...


#: Reads a rule; raises InvalidInput when it makes no sense or can never tick.
ReadCalendar = Callable[[ScheduleRule], Calendar]


class ScheduleRequest(BaseModel):
    """A schedule as a caller asks for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Handle
    job: JobName
    args: list[Any] = Field(default_factory=list, max_length=1000)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    queue: QueueName | None = None
    priority: Annotated[int, Field(ge=0, le=9)] | None = None
    cron: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    every: Duration | None = None
    at: Instant | None = None
    timezone: Annotated[str, Field(min_length=1, max_length=64)] = "UTC"
    dst_gap: Literal["shift", "skip"] = "shift"
    overlap: Literal["skip", "allow_all"] = "skip"
    catchup: Literal["latest", "none"] = "latest"
    catchup_window: Duration = timedelta(hours=1)
    unchecked: bool = False

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if sum(rule is not None for rule in (self.cron, self.every, self.at)) != 1:
            raise ValueError("exactly one of cron, every and at is expected")
        return self


def schedule_request(values: dict[str, Any]) -> ScheduleRequest:
    """Read a schedule from loose values; raises InvalidInput that names each field."""
    try:
        return ScheduleRequest.model_validate(values)
    except ValidationError as error:
        raise invalid_input(error) from None


class Schedules:
    """Keeps schedules."""

    def __init__(self, database: Database, enqueue: Enqueue, calendar: ReadCalendar) -> None:
        self._database = database
        self._enqueue = enqueue
        self._calendar = calendar

    def create(self, request: ScheduleRequest) -> Schedule:
        """Make a schedule; its first tick is the first after now. A name that is taken is a Conflict."""
        job = JobRequest(
            name=request.job, args=request.args, kwargs=request.kwargs, unchecked=request.unchecked
        )
        self._enqueue.check(job, Source("schedule", request.name))
        with self._database.transaction() as connection:
            now = job_queries.server_time(connection)
            rule = ScheduleRule(
                request.cron, request.every, request.at, request.timezone, request.dst_gap, now
            )
            first = self._calendar(rule).next_after(now)
            if first is None:
                raise InvalidInput(
                    "this schedule would never tick: its time has passed", fields={"at": "lies in the past"}
                )
            values = request.model_dump(exclude={"unchecked"})
            try:
                made = schedules.create(
                    connection, {**values, "id": new_id(), "created_at": now, "next_fire_at": first}
                )
            except IntegrityError:
                raise Conflict(f"there is a schedule called {request.name!r} already") from None
        log.info("schedule.created", schedule=made.name, next_fire_at=first.isoformat())
        return made

    def every(self) -> list[Schedule]:
        with self._database.autocommit() as connection:
            return schedules.every(connection)

    def get(self, name: str) -> Schedule:
        with self._database.autocommit() as connection:
            return _found(schedules.get(connection, name), name)

    def ticks(self, name: str, limit: int = 50) -> list[Tick]:
        with self._database.autocommit() as connection:
            _found(schedules.get(connection, name), name)
            return schedules.ticks(connection, name, limit)

    def pause(self, name: str) -> Schedule:
        """Let it not tick until it is resumed; ticks that pass meanwhile are not made up for."""
        with self._database.transaction() as connection:
            schedule = _found(schedules.get(connection, name, lock=True), name)
            schedules.pause(connection, schedule.id)
        log.info("schedule.paused", schedule=name)
        return self.get(name)

    def resume(self, name: str) -> Schedule:
        """Let it tick again, from the first tick after now on."""
        with self._database.transaction() as connection:
            schedule = _found(schedules.get(connection, name, lock=True), name)
            if schedule.paused_at is not None:
                now = job_queries.server_time(connection)
                schedules.resume(connection, schedule.id, self._calendar(schedule.rule).next_after(now))
        log.info("schedule.resumed", schedule=name)
        return self.get(name)

    def delete(self, name: str) -> None:
        """Remove a schedule and its ticks; jobs that it made stay."""
        with self._database.transaction() as connection:
            if not schedules.delete(connection, name):
                raise NotFound(f"there is no schedule {name[:100]!r}")
        log.info("schedule.deleted", schedule=name)


def _found(schedule: Schedule | None, name: str) -> Schedule:
    if schedule is None:
        raise NotFound(f"there is no schedule {name[:100]!r}")
    return schedule


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
        for schedule in schedules.lock_due(connection, _DUE_AT_ONCE):
            try:
                with connection.begin_nested():
                    decided += self._decide(connection, schedule, job_queries.server_time(connection))
            except CallboardError as error:
                if isinstance(error, Unavailable):
                    raise
                # It would be due for ever, and hold up whoever comes after it.
                schedules.pause(connection, schedule.id)
                log.error("schedule.unreadable", schedule=schedule.name, reason=error.message)  # noqa: TRY400
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
            schedules.record(connection, tick)
        fired = latest.nominal_at if latest.job_id else None
        schedules.advance(connection, schedule.id, next_fire_at=following, fired=fired, job=latest.job_id)
        return ticks

    def _latest(self, connection: Connection, schedule: Schedule, nominal: datetime, now: datetime) -> Tick:
        late = now - nominal
        window = schedule.catchup_window if schedule.catchup == "latest" else ON_TIME
        if late > max(window, ON_TIME):
            return Tick(schedule.id, nominal, "missed", "too late to catch up")
        if schedules.ticked(connection, schedule.id, nominal):
            return Tick(schedule.id, nominal, "skipped", "decided before")
        if schedule.overlap == "skip":
            state = schedules.last_state(connection, schedule)
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
