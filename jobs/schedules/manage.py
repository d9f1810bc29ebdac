"""Schedules: made, listed, paused, resumed, deleted, and ticked.

The calendar itself (cron, daylight saving) is given in as a `Calendar`: the domain knows rows and instants.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Protocol, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy.exc import IntegrityError

from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import Conflict, InvalidInput, NotFound
from callboard.jobs.model.fields import Duration, Handle, Instant, JobName, QueueName, invalid_input
from callboard.jobs.model.ids import new_id
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.postgres import server_clock
from callboard.jobs.postgres.database import Database
from callboard.jobs.schedules import repository
from callboard.jobs.schedules.rule import ScheduleRule
from callboard.jobs.schedules.schedule import Schedule, Tick

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
            now = server_clock.server_time(connection)
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
                made = repository.create(
                    connection, {**values, "id": new_id(), "created_at": now, "next_fire_at": first}
                )
            except IntegrityError:
                raise Conflict(f"there is a schedule called {request.name!r} already") from None
        log.info("schedule.created", schedule=made.name, next_fire_at=first.isoformat())
        return made

    def every(self) -> list[Schedule]:
        with self._database.autocommit() as connection:
            return repository.every(connection)

    def get(self, name: str) -> Schedule:
        with self._database.autocommit() as connection:
            return _found(repository.get(connection, name), name)

    def ticks(self, name: str, limit: int = 50) -> list[Tick]:
        with self._database.autocommit() as connection:
            _found(repository.get(connection, name), name)
            return repository.ticks(connection, name, limit)

    def pause(self, name: str) -> Schedule:
        """Let it not tick until it is resumed; ticks that pass meanwhile are not made up for."""
        with self._database.transaction() as connection:
            schedule = _found(repository.get(connection, name, lock=True), name)
            repository.pause(connection, schedule.id)
        log.info("schedule.paused", schedule=name)
        return self.get(name)

    def resume(self, name: str) -> Schedule:
        """Let it tick again, from the first tick after now on."""
        with self._database.transaction() as connection:
            schedule = _found(repository.get(connection, name, lock=True), name)
            if schedule.paused_at is not None:
                now = server_clock.server_time(connection)
                repository.resume(connection, schedule.id, self._calendar(schedule.rule).next_after(now))
        log.info("schedule.resumed", schedule=name)
        return self.get(name)

    def delete(self, name: str) -> None:
        """Remove a schedule and its ticks; jobs that it made stay."""
        with self._database.transaction() as connection:
            if not repository.delete(connection, name):
                raise NotFound(f"there is no schedule {name[:100]!r}")
        log.info("schedule.deleted", schedule=name)


def _found(schedule: Schedule | None, name: str) -> Schedule:
    if schedule is None:
        raise NotFound(f"there is no schedule {name[:100]!r}")
    return schedule
