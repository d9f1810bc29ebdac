"""The values that travel between services and repositories.

Those that every attempt makes are named tuples, which cost a third of a frozen dataclass.
"""

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    pass


class Hint(NamedTuple):
    """That a queued job may be claimed: its token (id, epoch) and what orders it. Redis carries these."""

    id: UUID
    epoch: int
    queue: str
    priority: int
    run_at: datetime
    #: Its queue is limited: only the feeder may bring it to Redis.
    limited: bool = False
