"""Keys of one Redis type: a value of another type is moved aside, never overwritten or deleted.

All keys under the prefix belong to Callboard. Another program may have written one of them all the same. Its
value is renamed to `{prefix}:foreign:{name}:{number}`, where its owner can find it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar

import structlog

from callboard.jobs.redis.faults import Cause, FaultLog, RedisUnavailable
from callboard.jobs.redis.link import Link
from callboard.jobs.redis.scripts import MOVE_ASIDE

T = TypeVar("T")
#: The types of keys that are used.
KeyType = Literal["zset", "hash"]
#: So many values of one key are moved aside. A program that goes on writing is left alone: Callboard then
#: works without the key.
_MOST_ASIDE: Final = 9

log = structlog.get_logger(__name__)


def aside_key(prefix: str, key: str, number: int) -> str:
    """Return the name that a foreign value of this key gets."""
    return f"{prefix}:foreign:{key.removeprefix(f'{prefix}:')}:{number}"


class TypedKeys:
    """Runs calls on keys that must have one type."""

    def __init__(self, link: Link, *, prefix: str, key_type: KeyType, faults: FaultLog) -> None:
        self._link = link
        self._prefix = prefix
        self._key_type = key_type
        self._faults = faults

    def run(self, keys: Sequence[str], call: Callable[[], T]) -> T:
        """Make a call that uses these keys. If one has another type, move it aside and repeat the call."""
        try:
            return call()
        except RedisUnavailable as error:
            if error.cause is not Cause.WRONG_TYPE or not self._move_aside(keys):
                raise
            return call()

    def _move_aside(self, keys: Sequence[str]) -> bool:
        """Rename all of these keys that have another type; return whether none is left."""
        with self._link.call("other") as client:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                names = [aside_key(self._prefix, key, number) for number in range(1, _MOST_ASIDE + 1)]
                pipeline.eval(MOVE_ASIDE, 1 + len(names), key, *names, self._key_type)
            results: list[Any] = pipeline.execute()
        left = [
            key
            for key, (found, number) in zip(keys, results, strict=True)
            if not self._is_free(key, found.decode(), number)
        ]
        return not left

    def _is_free(self, key: str, found: str, number: int) -> bool:
        """Log what was done with a value of this type; return whether the key can be used now."""
        if number > 0:
            moved_to = aside_key(self._prefix, key, number)
            log.warning("redis.foreign_key_moved", key=key, type=found, moved_to=moved_to)
        elif number < 0 and self._faults.is_new("foreign_key_left", key):
            log.warning("redis.foreign_key_left", key=key, type=found, moved_before=_MOST_ASIDE)
        return number >= 0
