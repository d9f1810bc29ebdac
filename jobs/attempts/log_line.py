"""A line that a job logged, as it is read from Postgres."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class JobLogLine:
    """A line that an attempt logged.

    An attempt that was given back and its successor have the same number; their epochs differ.
    """

    epoch: int
    line: int
    attempt: int
    logged_at: datetime
    level: str
    logger: str
    message: str
