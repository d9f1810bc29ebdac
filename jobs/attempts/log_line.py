"""A line that a job logged, read from Postgres."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class JobLogLine:
    """A line that an attempt logged.

    An attempt that was handed back does not count, so the next attempt has the same number. Epochs differ.
    """

    epoch: int
    line: int
    attempt: int
    logged_at: datetime
    level: str
    logger: str
    message: str
