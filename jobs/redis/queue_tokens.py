"""Tokens as they come from a queue's set, and what a priority is worth in its order."""

import re
from datetime import timedelta
from typing import Final

#: One step of priority is worth this much waiting time. URGENCY in jobs/postgres/sql.py has the same value.
AGEING: Final = timedelta(minutes=10)

_TOKEN: Final = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}):(\d{1,10})")
#: The largest value of the column `epoch`.
_LARGEST_EPOCH: Final = 2**31 - 1


def read_token(raw: bytes) -> tuple[str, int] | None:
    """Return the id and the epoch of a token; None if it is not a token.

    It never raises: one bad member of a set must not block the others.
    """
    found = _TOKEN.fullmatch(raw)
    if found is None or (epoch := int(found[2])) > _LARGEST_EPOCH:
        return None
    return found[1].decode(), epoch
