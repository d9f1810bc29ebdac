"""Identifiers: UUIDv7 (RFC 9562), which sort by the time they were made."""

from uuid import UUID

from uuid_utils.compat import uuid7

from jobs.errors import InvalidInput


def new_id() -> UUID:
    """Make a UUIDv7: its order is the order of creation, to the millisecond."""
    return uuid7()


def parse_id(text: str, *, what: str = "id") -> UUID:
    """Read an id that came from outside; raises InvalidInput that names it."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(
            f"not a valid {what}: {text[:60]!r} (a UUID is expected)", fields={what: "not a UUID"}
        ) from None
