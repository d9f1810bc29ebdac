"""The range of ids that jobs of a period have: a list reads it instead of all jobs that are newer."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from callboard.jobs.operate.job_filter import JobFilter

_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)
#: Later times have no place among the ids.
_LAST: Final = datetime(5000, 1, 1, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: An id contains the time of its maker's clock. The range is wider by this on each side. A job whose maker's
#: clock was wrong by more is not in the range.
_MARGIN: Final = timedelta(hours=1)


class IdRange(NamedTuple):
    """The ids of the jobs of a period: from `lowest` on, and before `end`."""

    lowest: UUID
    end: UUID


def range_of(which: JobFilter) -> IdRange | None:
    """Return the range of ids that a filter's times allow; None if it names no time."""
    if which.since is None and which.until is None:
        return None
    lowest = UUID(int=0) if which.since is None else _id_at(which.since, -_MARGIN)
    end = UUID(int=2**128 - 1) if which.until is None else _id_at(which.until, _MARGIN)
    return IdRange(lowest, end)


def _id_at(time: datetime, shift: timedelta) -> UUID:
    moment = min(max(time, _FIRST), _LAST) + shift
    return UUID(int=((moment - _EPOCH) // timedelta(milliseconds=1)) << 80)
