"""Options and option types that several commands share."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import click

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import parse_duration

Command = TypeVar("Command", bound=Callable[..., Any])


class DurationType(click.ParamType[timedelta]):
    """A duration such as `30s`, `10m`, `1h30m` or `2d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except InvalidInput as error:
            raise click.BadParameter(error.message, ctx, param) from None


class TimeType(click.ParamType[datetime]):
    """A time in ISO 8601 with a UTC offset, converted to UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value.strip())
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"not a time: {value[:40]!r} (write it as 2026-11-22T09:00:00Z)", param, ctx)
        raise click.BadParameter(
            f"the time {value[:40]!r} has no UTC offset (end it with Z or +01:00)", ctx, param
        )


class MomentType(click.ParamType[datetime]):
    """A time in the past: an ISO 8601 time, or a duration before now."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if value[:4].isdigit() and "-" in value:
            return TIME.convert(value, param, ctx)
        from callboard.jobs.model.basics.clock import SYSTEM

        return SYSTEM.now() - DURATION.convert(value, param, ctx)


class IdType(click.ParamType[UUID]):
    """A job's id: a UUID."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        if isinstance(value, UUID):
            return value
        try:
            return UUID(value)
        except ValueError:
            self.fail(f"not an id: {value[:60]!r} (a UUID is expected)", param, ctx)


DURATION: Final = DurationType()
TIME: Final = TimeType()
MOMENT: Final = MomentType()
ID: Final = IdType()


def json_option(command: Command) -> Command:
    """Add `--json` to a command, which receives it as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def yes_option(command: Command) -> Command:
    """Add `--yes` to a command that asks before it acts."""
    return click.option(
        "--yes", "-y", is_flag=True, help="Do not ask for confirmation; required without a terminal."
    )(command)
