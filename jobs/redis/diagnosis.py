"""The checks of `callboard doctor` in Redis, over their own connection."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import redis

from callboard.jobs.redis.link import unavailable

#: A person waits for the answer: this timeout is longer than that of the platform's own calls. Seconds.
_TIMEOUT: Final = 3.0


class RedisDiagnosis(NamedTuple):
    """The server's product name and version, and what it does when its memory is full; None: not known."""

    product: str
    version: str
    eviction_policy: str | None


def diagnose(url: str, schema: str) -> RedisDiagnosis:
    """Ask the server what it is, and write a key.

    Raises Unavailable unless it answers and accepts the write.
    """
    with unavailable():
        client = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, decode_responses=True
        )
        with client:
            info, policy = client.info("server"), client.info("memory").get("maxmemory_policy")
            # A server that is full, read-only or unable to save still answers, but cannot be used.
            client.set(f"{schema}:check", b"", px=1_000)
            product, version = _version(info)
            return RedisDiagnosis(product, version, policy)


def _version(info: Mapping[str, Any]) -> tuple[str, str]:
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info.get("redis_version", "0"))
