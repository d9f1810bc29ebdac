"""Schedules: create, list, pause, resume and delete them."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import Conflict, Duplicate, InvalidInput, NotFound
from callboard.jobs.model.basics.fields import Duration, Handle, Instant, JobName, QueueName, invalid_input
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.postgres import server_clock
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.schedules import repository
from callboard.jobs.schedules.cron import spec_calendar
from callboard.jobs.schedules.rule import ScheduleRule
from callboard.jobs.schedules.schedule import Schedule, Tick

log = structlog.get_logger(__name__)


class ScheduleRequest(BaseModel):
    """A request to create a schedule. Exactly one of `cron`, `every` and `at` is given.

    overlap, catchup, catchup_window: see Schedule.
    unchecked: accept a job that no worker has published, and do not check its arguments.
    """

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
    """Make a ScheduleRequest from a caller's values. Raises InvalidInput, which names each bad field."""
    try:
        return ScheduleRequest.model_validate(values)
    except ValidationError as error:
        raise invalid_input(error) from None


class Schedules:
    """Creates, lists, pauses, resumes and deletes schedules. An unknown name raises NotFound."""

    def __init__(self, database: Database, enqueue: Enqueue, catalogue: Catalogue) -> None:
        self._database = database
        self._enqueue = enqueue
        self._catalogue = catalogue

    def create(self, request: ScheduleRequest) -> Schedule:
        """Create a schedule. Its first tick is the first one after now.

        With CALLBOARD_APP, a job of this application is found by its bare name first.

        Raises Conflict when the name is taken, InvalidInput when the rule is not valid or has no tick after
        now, UnknownJob or InvalidArguments when the job does not accept the arguments.
        """
        request = request.model_copy(update={"job": self._catalogue.full_name(request.job)})
        job = JobRequest(
            name=request.job, args=request.args, kwargs=request.kwargs, unchecked=request.unchecked
        )
        self._enqueue.check(job, Source("schedule", request.name))

        def work(connection: Connection) -> tuple[Schedule, datetime]:
            now = server_clock.server_time(connection)
            rule = ScheduleRule(
                cron=request.cron,
                every=request.every,
                at=request.at,
                timezone=request.timezone,
                dst_gap=request.dst_gap,
                anchor=now,
            )
            first = spec_calendar(rule).next_after(now)
            if first is None:
                raise InvalidInput(
                    "this schedule would never tick: its time is in the past",
                    fields={"at": "is in the past"},
                )
            values = request.model_dump(exclude={"unchecked"})
            values |= {"id": new_id(), "created_at": now, "next_fire_at": first}
            return repository.create(connection, values), first

        try:
            made, first = self._database.retrying(work)
        except Duplicate:
            raise Conflict(f"there is already a schedule called {request.name!r}") from None
        log.info("schedule.created", schedule=made.name, next_fire_at=first.isoformat())
        return made

    def every(self) -> list[Schedule]:
        """Return the schedules, sorted by name; 1,000 at most."""
        with self._database.autocommit() as connection:
            return repository.every(connection)

    def get(self, name: str) -> Schedule:
        with self._database.autocommit() as connection:
            return _found(repository.get(connection, name), name)

    def ticks(self, name: str, limit: int = 50) -> list[Tick]:
        """Return the latest ticks of a schedule, newest first."""
        with self._database.autocommit() as connection:
            _found(repository.get(connection, name), name)
            return repository.ticks(connection, name, limit)

    def pause(self, name: str) -> Schedule:
        """Stop the ticks of a schedule until it is resumed. Ticks in between are never caught up."""

        def work(connection: Connection) -> None:
            schedule = _found(repository.get(connection, name, lock=True), name)
            repository.pause(connection, schedule.id)

        self._database.retrying(work)
        log.info("schedule.paused", schedule=name)
        return self.get(name)

    def resume(self, name: str) -> Schedule:
        """Start the ticks of a paused schedule again. Its next tick is the first one after now."""

        def work(connection: Connection) -> None:
            schedule = _found(repository.get(connection, name, lock=True), name)
            if schedule.paused_at is not None:
                now = server_clock.server_time(connection)
                repository.resume(connection, schedule.id, spec_calendar(schedule.rule).next_after(now))

        self._database.retrying(work)
        log.info("schedule.resumed", schedule=name)
        return self.get(name)

    def delete(self, name: str) -> None:
        """Delete a schedule and its ticks. The jobs that it enqueued stay."""
        if not self._database.retrying(lambda connection: repository.delete(connection, name)):
            raise NotFound(f"there is no schedule {name[:100]!r}")
        log.info("schedule.deleted", schedule=name)


def _found(schedule: Schedule | None, name: str) -> Schedule:
    if schedule is None:
        raise NotFound(f"there is no schedule {name[:100]!r}")
    return schedule
