"""The progress that a running job reports."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

#: The longest note that is stored. Characters.
LONGEST_NOTE: Final = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one attempt has come: the part that is done (0..1) and a note."""

    id: UUID
    epoch: int
    claim_id: UUID
    fraction: float
    note: str | None
