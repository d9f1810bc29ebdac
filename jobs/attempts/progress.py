"""How far running jobs have come, written in batches."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

#: Characters of a note.
LONGEST_NOTE: Final = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """A running job's own word on itself: the part done (0..1) and a note."""

    id: UUID
    epoch: int
    claim_id: UUID
    fraction: float
    note: str | None
