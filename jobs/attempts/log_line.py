"""What attempts log: written in batches, read by keyset. Goes with its job."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class JobLogLine:
    """A line that an attempt logged. `epoch` tells attempts of the same number apart, as those that were given back have it."""

    epoch: int
    line: int
    attempt: int
    logged_at: datetime
    level: str
    logger: str
    message: str
