"""Pydantic types that parse the text form of settings."""

import logging
import re
from datetime import timedelta
from ipaddress import ip_network
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from callboard.config.addresses import check_postgres_url, check_redis_url
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import format_duration, parse_duration
from callboard.jobs.model.basics.schema_name import check_schema

MAX_URL: Final = 2000
_KEEP_OTHERS: Final = timedelta(days=30)
_SIZE: Final = re.compile(r"(\d{1,12})\s?(|b|kib|mib)", re.IGNORECASE | re.ASCII)
_UNITS: Final = {"": 1, "b": 1, "kib": 1024, "mib": 1024 * 1024}
_YES_OR_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
LOG_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a duration must be text")  # noqa: TRY004 - pydantic collects ValueError only
    try:
        return parse_duration(value.strip())
    except InvalidInput as error:
        raise ValueError(error.message) from None


def _comma_separated(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _database_url(value: str, info: ValidationInfo) -> str:
    environment = info.context or {}
    return check_postgres_url(
        value, has_default_database=any(environment.get(name) for name in ("PGDATABASE", "PGSERVICE"))
    )


def _schema(value: str) -> str:
    try:
        return check_schema(value)
    except InvalidInput as error:
        raise ValueError(error.message) from None


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("not a size")
    return int(match[1]) * _UNITS[match[2].lower()]


def _network(value: str) -> str:
    """Return the network as `ipaddress` writes it; an address is a network of one."""
    network = ip_network(value)
    if network.prefixlen == 0:
        raise ValueError("a network of all addresses")
    return str(network)


def _yes_or_no(value: object) -> object:
    if isinstance(value, bool):
        return value
    known = _YES_OR_NO.get(value.strip().lower()) if isinstance(value, str) else None
    if known is None:
        raise ValueError("neither yes nor no")
    return known


def _module(value: str) -> str:
    """Check the dotted path of a module. Pydantic's pattern for it takes a MiB of each process."""
    if not all(part.isidentifier() for part in value.split(".")):
        raise ValueError("not the name of a module")
    return value


def _object(value: str) -> str:
    module, _, attribute = value.partition(":")
    _module(module)
    _module(attribute)
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
_KEPT: Final = "a duration of {} or more, such as 30d"
TickRetention = Annotated[Duration, Field(ge=timedelta(hours=1), description=_KEPT.format("1h"))]
#: Senders repeat a delivery for days.
DeliveryRetention = Annotated[Duration, Field(ge=timedelta(days=1), description=_KEPT.format("1d"))]
#: A job type is recorded as in use once a day.
JobTypeRetention = Annotated[Duration, Field(ge=timedelta(days=2), description=_KEPT.format("2d"))]
#: `true` or `false`, `yes` or `no`, `1` or `0`.
YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no)]
Lowered = BeforeValidator(_lower)
DatabaseUrl = Annotated[str, Field(max_length=MAX_URL), AfterValidator(_database_url)]
RedisUrl = Annotated[str, Field(max_length=MAX_URL), AfterValidator(check_redis_url)]
SchemaName = Annotated[str, AfterValidator(_schema)]
Address = Annotated[str, Field(pattern=r"^[^\s/]+$", max_length=255)]
#: A number of bytes: `4096`, `64KiB`, `1MiB`.
Size = Annotated[int, BeforeValidator(_size)]
Port = Annotated[int, Field(ge=0, le=65535)]
Modules = Annotated[
    tuple[Annotated[str, Field(max_length=200), AfterValidator(_module)], ...],
    Field(max_length=100),
    BeforeValidator(_comma_separated),
]
#: Objects in modules, such as `shop.mw:Sentry`.
Objects = Annotated[
    tuple[Annotated[str, Field(max_length=200), AfterValidator(_object)], ...],
    Field(max_length=100),
    BeforeValidator(_comma_separated),
]
#: Queue names that Dramatiq allows.
Queues = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9._-]*$", max_length=100)], ...],
    Field(max_length=100),
    BeforeValidator(_comma_separated),
]
#: Addresses and networks (CIDR), such as `10.0.0.5,10.1.0.0/16`.
TrustedNetworks = Annotated[
    tuple[Annotated[str, Field(max_length=50), AfterValidator(_network)], ...],
    Field(max_length=100),
    BeforeValidator(_comma_separated),
]


class RetentionPeriods(BaseModel):
    """How long jobs are kept after their end: succeeded jobs, and all other ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    succeeded: Annotated[Duration, Field(ge=timedelta(minutes=1))] = timedelta(days=7)
    other: Annotated[Duration, Field(ge=timedelta(minutes=1))] = _KEEP_OTHERS

    def __str__(self) -> str:
        return f"{format_duration(self.succeeded)},{format_duration(self.other)}"


def _retention(value: object) -> object:
    """Parse `7d,30d`, or `7d` alone.

    With `7d` alone, other jobs are kept 30 days, or as long as succeeded jobs if that is longer.
    """
    if not isinstance(value, str):
        return value
    succeeded, comma, other = value.partition(",")
    if comma:
        return {"succeeded": succeeded, "other": other}
    kept = _duration(succeeded)
    return {"succeeded": kept, "other": max(kept, _KEEP_OTHERS) if isinstance(kept, timedelta) else kept}


Retention = Annotated[RetentionPeriods, BeforeValidator(_retention)]
AppName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,49}$")]
