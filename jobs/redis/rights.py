"""What a Redis user must be allowed to do, and a check of it that changes nothing.

Redis checks a user's rights before it reads the values. So each command is sent with a value that is no
number where it needs one: an allowed command is refused for this value, and has no effect.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis

from callboard.jobs.redis.faults import Cause, told
from callboard.jobs.redis.key_owners import owners_key

#: The rights of `ACL SETUSER` for commands. `info` is for `callboard doctor` alone.
COMMANDS: Final = (
    "ping", "select", "eval", "zadd", "zcard", "zmpop", "bzmpop", "zpopmin", "zrange", "zremrangebyrank",
    "zremrangebyscore", "pexpire", "hlen", "hexists", "hincrby", "expire", "set", "type", "renamenx", "time",
    "publish", "subscribe", "unsubscribe", "pubsub|numsub", "info",
)  # fmt: skip
_BAD: Final = "not-a-number"
_COMMAND: Final = re.compile(r"run the '([^']{1,40})' command")


class _Probe(NamedTuple):
    """A command without effect, and the key or channel that it names."""

    command: tuple[str, ...]
    subject: str


def missing_rights(client: redis.Redis, prefix: str, channel: str) -> Sequence[str]:
    """Return what the user of this connection is not allowed to do, in words such as `command zadd`.

    Raises RedisUnavailable when the server lacks a command.
    """
    probes = _probes(prefix, channel)
    pipeline = client.pipeline(transaction=False)
    for probe in probes:
        pipeline.execute_command(*probe.command)  # type: ignore[no-untyped-call]
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    missing = [
        lack
        for probe, answer in zip(probes, answers, strict=True)
        if isinstance(answer, Exception) and (lack := _lack(probe, answer))
    ]
    with client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
        try:
            subscription.subscribe(channel)
            subscription.get_message(timeout=1)
        except redis.ResponseError as error:
            missing.append(_lack(_Probe(("SUBSCRIBE",), f"channel {channel}"), error))
    return list(dict.fromkeys(filter(None, missing)))


def _lack(probe: _Probe, answer: Exception) -> str:
    fault = told(answer)
    if fault.cause is Cause.NO_COMMAND:
        raise fault
    if fault.cause is not Cause.NO_RIGHT:
        return ""
    command = _COMMAND.search(fault.message)
    if command is not None:
        return f"command {command[1]}"
    return probe.subject or f"command {probe.command[0].lower()}"


def _probes(prefix: str, channel: str) -> list[_Probe]:
    # No queue, worker or window has an empty name.
    tokens, wake, failures = (f"{prefix}:{name}:" for name in ("queue", "wake", "auth-failures"))
    aside, owners, check = f"{prefix}:foreign:", owners_key(prefix), f"{prefix}:check"

    def on(key: str, *commands: tuple[str, ...]) -> list[_Probe]:
        pattern = f"{key}*" if key.endswith(":") else key
        return [
            _Probe(tuple(key if word == "KEY" else word for word in one), f"keys {pattern}")
            for one in commands
        ]

    return [
        *(_Probe(one, "") for one in [("PING",), ("EVAL", "return 0", "0"), ("TIME",), ("INFO", "server")]),
        *on(
            tokens, ("ZCARD", "KEY"), ("ZADD", "KEY", _BAD, "m"), ("ZMPOP", "1", "KEY", "MIN", "COUNT", _BAD),
            ("BZMPOP", _BAD, "1", "KEY", "MIN"), ("ZPOPMIN", "KEY", _BAD), ("TYPE", "KEY"),
            ("ZREMRANGEBYRANK", "KEY", _BAD, _BAD), ("RENAMENX", "KEY", "KEY"),
        ),
        *on(wake, ("ZADD", "KEY", _BAD, "m"), ("PEXPIRE", "KEY", _BAD), ("ZPOPMIN", "KEY", _BAD)),
        *on(
            failures, ("HLEN", "KEY"), ("HEXISTS", "KEY", "f"), ("HINCRBY", "KEY", "f", _BAD),
            ("EXPIRE", "KEY", _BAD),
        ),
        *on(
            owners, ("ZADD", "KEY", _BAD, "m"), ("ZREMRANGEBYSCORE", "KEY", _BAD, _BAD),
            ("PEXPIRE", "KEY", _BAD), ("ZRANGE", "KEY", _BAD, _BAD),
        ),
        *on(check, ("SET", "KEY", "", "NX", "PX", _BAD)),
        *on(aside, ("RENAMENX", "KEY", "KEY")),
        _Probe(("PUBLISH", channel, ""), f"channel {channel}"),
        _Probe(("PUBSUB", "NUMSUB", channel), ""),
    ]  # fmt: skip
