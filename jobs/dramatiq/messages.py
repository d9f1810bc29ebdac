"""A Dramatiq message as a job: which of its options the platform knows, and what it makes of them."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dramatiq import Actor, Message

from callboard.jobs.followers.dispatch import Dispatch
from callboard.jobs.model.durations import LONGEST
from callboard.jobs.model.ids import id_of
from callboard.jobs.model.job import DEFAULT_PRIORITY
from callboard.jobs.model.request import job_request
from callboard.jobs.model.retry import MAX_RETRIES, UNLIMITED_ATTEMPTS

#: Dramatiq's priorities are any integers, 0 by default and lower ones first; ours go from 0 (first) to 9, 5 by default.
#: From so far away from 0 on a priority is one, two, three, four steps away from the middle.
_STEPS: Final = (1, 2, 10, 100)
#: Milliseconds since 1970 up to the year 3000.
_LATEST: Final = 32_503_680_000_000


def priority_of(dramatiq_priority: int) -> int:
    """Our priority for Dramatiq's: 0 is 5; 1 is 6, up to 9 is 7, up to 99 is 8, beyond is 9; negative ones mirror that."""
    steps = sum(abs(dramatiq_priority) >= least for least in _STEPS)
    return DEFAULT_PRIORITY + steps if dramatiq_priority > 0 else DEFAULT_PRIORITY - steps


def dispatch_of(
    message: Message[Any], actor: Actor[..., Any] | None, delay: int | None = None, barrier: str | None = None
) -> Dispatch:
    """What to enqueue for a message; `actor` is the one it goes to, where this process knows it.

    Raises InvalidInput that names the option that does not fit.
    """
    options = message.options
    values: dict[str, Any] = {
        "name": message.actor_name,
        "args": list(message.args),
        "kwargs": message.kwargs,
        "queue": message.queue_name,
        # A plain actor may be sent before any worker has published it, as with every other broker.
        "unchecked": True,
    }
    if delay is not None:
        values["delay"] = _span(max(delay, 0))
    if options:
        values |= _known(options)
        # `eta` is how Dramatiq's own brokers write a delay down, and JSON has no infinity: no limit is what it says.
        kept = {key: value for key, value in options.items() if key != "eta" and value != math.inf}
        values["message_options"] = kept or None
    expires_at = expiry(message.message_timestamp, options, {} if actor is None else actor.options)
    if expires_at is not None:
        values["expires_at"] = expires_at
    defaults = None if actor is None or hasattr(actor, "job_options") else actor.options
    if defaults is not None and actor is not None:
        values["priority"] = priority_of(actor.priority)
    attempts = _attempts(options, defaults)
    return Dispatch(
        job_request(values), id_of(message.message_id, message.message_timestamp), attempts, barrier
    )


def _attempts(options: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> int | None:
    """How many attempts a message has; None where that is for the job's own definition to say."""
    if defaults is not None and defaults.get("retry_when") is not None:
        return UNLIMITED_ATTEMPTS
    if "max_retries" not in options and defaults is None:
        return None
    retries = options.get("max_retries", (defaults or {}).get("max_retries", MAX_RETRIES))
    if retries is None:
        return UNLIMITED_ATTEMPTS
    return min(max(retries, 0) + 1, UNLIMITED_ATTEMPTS) if isinstance(retries, int) else None


def expiry(made_at: int, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> datetime | None:
    """When a message that was made then (milliseconds) is too old to be run, if ever."""
    max_age = options.get("max_age") or defaults.get("max_age")
    if not isinstance(max_age, int | float) or not 0 < made_at + max_age < _LATEST:
        return None
    return datetime.fromtimestamp((made_at + max_age) / 1000, UTC)


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    limit = options.get("time_limit")
    if isinstance(limit, int | float) and limit > 0:
        values["timeout"] = _span(limit)
    least, most = (_backoff(options.get(name)) for name in ("min_backoff", "max_backoff"))
    if least is not None:
        values["min_backoff"] = least if most is None else min(least, most)
    if most is not None:
        values["max_backoff"] = most
    return values


def _backoff(value: object) -> timedelta | None:
    return _span(value) if isinstance(value, int | float) and value >= 0 else None


def _span(milliseconds: float) -> timedelta:
    """A duration; what is longer than any we keep (infinity, too) is as good as the longest."""
    longest = LONGEST.total_seconds() * 1000
    return timedelta(milliseconds=min(milliseconds, longest))
