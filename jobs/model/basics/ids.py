"""Identifiers: UUIDv7 (RFC 9562). They sort by creation time."""

import hashlib
from typing import Final
from uuid import UUID

import uuid_utils
from uuid_utils.compat import uuid7

from callboard.jobs.errors import InvalidInput

_VERSION: Final = 7
#: The largest time that a UUIDv7 holds: 48 bits of milliseconds.
_LATEST: Final = 2**48 - 1


def new_id() -> UUID:
    """Make a UUIDv7. Ids sort by creation time, to the millisecond."""
    return uuid7()


def text_of(job_id: UUID) -> str:
    """Return the same text as `str(job_id)`, in half the time."""
    return str(uuid_utils.UUID(int=job_id.int))


def id_of(text: str, made_at: int) -> UUID:
    """Return the job id for a message id that another program made. The same input always gives the same id.

    text:    the message's id. A UUIDv7 is returned unchanged.
    made_at: when the message was made, Unix time in milliseconds.

    Any other text becomes a UUIDv7 of `made_at` and a SHA-256 digest of the text, so that all jobs sort by
    age.
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
    """Return the creation time in a UUIDv7: Unix time in milliseconds."""
    return job_id.int >> 80


def parse_id(text: str, *, what: str = "id") -> UUID:
    """Parse an id that a caller wrote. Raises InvalidInput, which names the field `what`."""
    try:
        if not isinstance(text, str):
            raise ValueError("no text")  # noqa: TRY004 - the same error as for a text that is no UUID
        return UUID(text)
    except ValueError:
        shown = text[:60] if isinstance(text, str) else text
        raise InvalidInput(
            f"not a valid {what}: {shown!r:.62} (a UUID is expected)", fields={what: "not a UUID"}
        ) from None
