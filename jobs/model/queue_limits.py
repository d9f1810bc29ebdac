"""The limits of a queue: how many jobs run at once, and how many start in a period. How a rate is written."""

import re
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import format_duration, parse_duration

#: The largest concurrency, and the largest amount of a rate.
MOST: Final = 1_000_000
SHORTEST_PERIOD: Final = timedelta(seconds=1)
LONGEST_PERIOD: Final = timedelta(days=1)

_RATE: Final = re.compile(r"\s*([0-9]{1,9})\s*/\s*(\S{1,20})\s*")
_UNIT: Final = re.compile(r"ms|[smhdw]")
_FORM: Final = "write it as 100/1m: an amount and a period"

#: A regular expression for rates as `str` writes them, and as a caller should. `Rate.parse` accepts all of
#: these, and also spaces and fractions of a minute or hour.
RATE_PATTERN: Final = (
    r"(?:[1-9][0-9]{0,5}|1000000)/(?:1?d|24h|1440m|86400s|[hms]"
    r"|(?:[1-9]|1[0-9]|2[0-3])h(?:[0-5]?[0-9]m)?(?:[0-5]?[0-9]s)?"
    r"|(?:[1-9][0-9]{0,2}|1[0-3][0-9]{2}|14[0-3][0-9])m(?:[0-5]?[0-9]s)?"
    r"|(?:[1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2})s)"
)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `amount` starts within any `period`."""

    amount: int
    period: timedelta

    def __post_init__(self) -> None:
        _check("a rate", self.amount)
        if not SHORTEST_PERIOD <= self.period <= LONGEST_PERIOD or self.period.microseconds:
            raise InvalidInput(
                "the period of a rate is whole seconds, between 1s and 1d", fields={"rate": _FORM}
            )

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Parse `100/1m`; `5/s` means `5/1s`. Raises InvalidInput with an example of the format."""
        found = _RATE.fullmatch(text)
        if found is None:
            raise InvalidInput(f"not a rate: {text[:40]!r} ({_FORM})", fields={"rate": _FORM})
        period = found[2].lower()
        try:
            length = parse_duration(f"1{period}" if _UNIT.fullmatch(period) else period)
        except InvalidInput as error:
            raise InvalidInput(error.message, fields={"rate": _FORM}) from None
        return cls(int(found[1]), length)

    def __str__(self) -> str:
        # format_duration writes two units at most and drops the rest. In that case write seconds, which are
        # exact.
        text = format_duration(self.period)
        whole = parse_duration(text) == self.period
        return f"{self.amount}/{text if whole else f'{int(self.period.total_seconds())}s'}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a queue, and of each `limit_key` within it. None: no limit.

    concurrency, key_concurrency: jobs that run at once.
    rate, key_rate:               starts in a period.
    """

    concurrency: int | None = None
    rate: Rate | None = None
    key_concurrency: int | None = None
    key_rate: Rate | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "key_concurrency"):
            value = getattr(self, name)
            if value is not None:
                _check(name, value)

    @classmethod
    def read(cls, **given: Any) -> "Limits":
        """Make Limits from a caller's values: whole numbers, and rates as text or Rate.

        Raises InvalidInput, which names the field.
        """
        read: dict[str, Any] = dict(given)
        for name in ("rate", "key_rate"):
            if isinstance(read.get(name), str):
                try:
                    read[name] = Rate.parse(read[name])
                except InvalidInput as error:
                    raise InvalidInput(f"{name}: {error.message}", fields={name: error.message}) from None
        return cls(**read)

    @property
    def any(self) -> bool:
        """Whether at least one limit is set."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    @property
    def longest_period(self) -> timedelta:
        """Return the longest period of the rates: a start counts for this long. Zero without a rate."""
        return max([rate.period for rate in (self.rate, self.key_rate) if rate], default=timedelta(0))

    @property
    def shortest_period(self) -> timedelta:
        """Return the shortest period of the rates. Zero without a rate."""
        return min([rate.period for rate in (self.rate, self.key_rate) if rate], default=timedelta(0))

    def written(self) -> dict[str, int | str | None]:
        """Return the limits for JSON: whole numbers, rates as text, null for no limit."""
        return {
            "concurrency": self.concurrency,
            "rate": None if self.rate is None else str(self.rate),
            "key_concurrency": self.key_concurrency,
            "key_rate": None if self.key_rate is None else str(self.key_rate),
        }


def _check(what: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise InvalidInput(f"{what} is a whole number between 1 and {MOST:,}", fields={what: "out of range"})
