"""Identifiers: UUIDv7 (RFC 9562), which sort by the time they were made."""

import hashlib
from typing import Final
from uuid import UUID

import uuid_utils
from uuid_utils.compat import uuid7

from callboard.jobs.errors import InvalidInput


def new_id() -> UUID:
    """Make a UUIDv7: its order is the order of creation, to the millisecond."""
    return uuid7()


def text_of(job_id: UUID) -> str:
    """As `str`, in half of the time."""
    return str(uuid_utils.UUID(int=job_id.int))


_VERSION: Final = 7
_LATEST: Final = 2**48 - 1


def id_of(text: str, made_at: int) -> UUID:
    """The id that stands for a name made elsewhere at this Unix time (milliseconds): always the same one.

    A UUIDv7 stands for itself. Any other name gives the time and a digest of itself in the form of a UUIDv7, so that
    jobs sort by age whoever named them.
    """
    try:
        given = UUID(text)
    except ValueError:
        given = None
    if given is not None and given.version == _VERSION:
        return given
    digest = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])
    low = digest & (2**62 - 1) | 0b10 << 62
    middle = (digest >> 64) & 0xFFF | _VERSION << 12
    return UUID(int=min(max(made_at, 0), _LATEST) << 80 | middle << 64 | low)


def made_at(job_id: UUID) -> int:
    """The Unix time in milliseconds that a UUIDv7 carries."""
    return job_id.int >> 80


def parse_id(text: str, *, what: str = "id") -> UUID:
    """Read an id that came from outside; raises InvalidInput that names it."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(
            f"not a valid {what}: {text[:60]!r} (a UUID is expected)", fields={what: "not a UUID"}
        ) from None
