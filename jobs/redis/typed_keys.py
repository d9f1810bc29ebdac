"""Keys of one Redis type: a value of another type is moved aside, never overwritten or deleted.

All keys under the prefix belong to Callboard. Another program may have written one of them all the same. Its
value is renamed to `{prefix}:foreign:{name}:{number}`, where its owner can find it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar

import redis
import structlog

from callboard.jobs.redis.faults import Cause, FaultLog, RedisUnavailable
from callboard.jobs.redis.link import Link

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
                pipeline.type(key)
            types: list[Any] = pipeline.execute()
            wrong = [
                (key, found)
                for key, raw in zip(keys, types, strict=True)
                if (found := raw.decode()) not in {self._key_type, "none"}
            ]
            left = [key for key, found in wrong if not self._rename(client, key, found)]
            return not left

    def _rename(self, client: redis.Redis, key: str, found: str) -> bool:
        for number in range(1, _MOST_ASIDE + 1):
            moved_to = aside_key(self._prefix, key, number)
            try:
                renamed = client.renamenx(key, moved_to)
            except redis.ResponseError as error:
                if "no such key" in str(error):
                    return True
                raise
            if renamed:
                log.warning("redis.foreign_key_moved", key=key, type=found, moved_to=moved_to)
                return True
        if self._faults.is_new("foreign_key_left", key):
            log.warning("redis.foreign_key_left", key=key, type=found, moved_before=_MOST_ASIDE)
        return False
