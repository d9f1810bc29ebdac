"""The checks of `callboard doctor` in Redis, over their own connection."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import NoPermissionError

from callboard.jobs.redis.faults import Cause, RedisUnavailable
from callboard.jobs.redis.key_owners import owners_key
from callboard.jobs.redis.rights import missing_rights
from callboard.jobs.redis.transport import Transport
from callboard.jobs.redis.typed_keys import aside_key

#: A person waits for the answer: this timeout is longer than that of the platform's own calls. Seconds.
_TIMEOUT: Final = 3.0


@dataclass(frozen=True, slots=True)
class RedisDiagnosis:
    """What is known of a server that answers and accepts writes.

    product, version: None if the user may not ask.
    eviction_policy:  what it does when its memory is full; None if not known.
    missing_rights:   what the user may not do.
    foreign:          keys that have a value of another type, with the type.
    set_aside:        keys to which such values were moved.
    owners:           the installations that use the keys.
    """

    product: str
    version: str | None
    eviction_policy: str | None
    missing_rights: Sequence[str]
    foreign: Mapping[str, str]
    set_aside: Sequence[str]
    owners: Sequence[str]


def diagnose(url: str, prefix: str, queues: Sequence[str]) -> RedisDiagnosis:
    """Ask the server what it is, write a key, and look at the keys of these queues.

    Raises RedisUnavailable unless it answers and accepts the write.
    """
    with closing(Transport(url, prefix=prefix)) as transport, transport.call(_TIMEOUT) as client:
        # A server that refuses everybody answers the first command and hangs up.
        with suppress(NoPermissionError):
            client.ping()
        missing = missing_rights(client, prefix, transport.finished_channel)
        info = _info(client)
        if info.get("redis_mode") == "cluster":
            raise RedisUnavailable(
                "Redis runs in cluster mode, which Callboard does not support", cause=Cause.CLUSTER
            )
        keys = [owners_key(prefix), *map(transport.queue_key, queues)]
        # Without the right to see these, they are not known.
        types: list[Any] = _asked(client, [("TYPE", key) for key in keys])
        aside = [aside_key(prefix, key, 1) for key in keys]
        moved: list[Any] = _asked(client, [("TYPE", key) for key in aside])
        [owners] = _asked(client, [("ZRANGE", owners_key(prefix), 0, -1)])
        foreign = {
            key: kind
            for key, raw in zip(keys, types, strict=True)
            if isinstance(raw, bytes) and (kind := raw.decode()) not in {"zset", "none"}
        }
        if not missing:
            # A server that is full, read-only or unable to save still answers, but cannot be used.
            transport.check_with(client)
    product, version = _version(info)
    return RedisDiagnosis(
        product=product,
        version=version,
        eviction_policy=info.get("maxmemory_policy"),
        missing_rights=missing,
        foreign=foreign,
        set_aside=[
            key for key, raw in zip(aside, moved, strict=True) if isinstance(raw, bytes) and raw != b"none"
        ],
        owners=[raw.decode(errors="replace") for raw in owners] if isinstance(owners, list) else [],
    )


def _asked(client: redis.Redis, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Return an answer or an error for each of these commands."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    return pipeline.execute(raise_on_error=False)


def _info(client: redis.Redis) -> dict[str, Any]:
    try:
        return {**client.info("server"), **client.info("memory")}
    except NoPermissionError:
        return {}


def _version(info: Mapping[str, Any]) -> tuple[str, str | None]:
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info["redis_version"]) if "redis_version" in info else None
