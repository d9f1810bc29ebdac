"""What to enqueue for a Dramatiq message: its options become those of a job."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from dramatiq import Actor, Message
from dramatiq.common import current_millis

from callboard.jobs.dramatiq.job_names import job_name
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import LONGEST
from callboard.jobs.model.basics.ids import id_of
from callboard.jobs.model.dispatch import Dispatch
from callboard.jobs.model.job import DEFAULT_PRIORITY
from callboard.jobs.model.request import job_request
from callboard.jobs.model.retry import MAX_RETRIES, UNLIMITED_ATTEMPTS

#: Dramatiq's priorities are integers: the default is 0, and lower ones come first. Ours are 0 (first) to 9;
#: the default is 5. An absolute value of at least 1, 2, 10 or 100 becomes 1, 2, 3 or 4 steps from 5.
_STEPS: Final = (1, 2, 10, 100)
#: The year 3000, in milliseconds since 1970.
_LATEST: Final = 32_503_680_000_000
NO_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType({})


def priority_of(dramatiq_priority: int) -> int:
    """Return our priority: 0 is 5; 1 is 6; 2 to 9 is 7; 10 to 99 is 8; 100 and more is 9.

    Negative priorities are symmetric: -1 is 4, and so on.
    """
    steps = sum(abs(dramatiq_priority) >= least for least in _STEPS)
    return DEFAULT_PRIORITY + steps if dramatiq_priority > 0 else DEFAULT_PRIORITY - steps


def with_job_id(message: Message[Any]) -> Message[Any]:
    """Return the message with the id that its job gets. Raises InvalidInput for a timestamp that is none."""
    made_at = message.message_timestamp
    if not isinstance(made_at, int | float) or not math.isfinite(made_at):
        raise InvalidInput(
            f"message_timestamp must be a number of milliseconds since 1970, not {made_at!r:.60}",
            fields={"message_timestamp": "not a number of milliseconds"},
        )
    job_id = str(id_of(message.message_id, int(made_at)))
    return message if job_id == message.message_id else message.copy(message_id=job_id)


def dispatch_of(
    message: Message[Any],
    actor: Actor[..., Any] | None,
    delay: int | None = None,
    barrier: str | None = None,
    defaults: Mapping[str, Any] = NO_DEFAULTS,
) -> Dispatch:
    """Return what to enqueue for a message. actor: the message's actor, if this process knows it.

    defaults: the options that the actor's broker sets for its plain actors.

    Raises InvalidInput, which names the option that is not valid.
    """
    options = message.options
    values: dict[str, Any] = {
        "name": message.actor_name if actor is None else job_name(actor),
        "args": list(message.args),
        "kwargs": message.kwargs,
        "queue": message.queue_name,
        # As in other brokers, a message may be sent before any worker has published its actor.
        "unchecked": True,
    }
    if delay is None and "eta" in options:
        delay = _delay_until(options["eta"])
    if delay is not None:
        values["delay"] = _span(max(delay, 0))
    if options:
        values |= _known_options(options)
        # JSON has no infinity: an infinite limit means no limit.
        kept = {key: value for key, value in options.items() if key != "eta" and value != math.inf}
        values["message_options"] = kept or None
    of_actor: Mapping[str, Any] | None = None
    if actor is not None and not hasattr(actor, "job_options"):
        of_actor = {**defaults, **actor.options} if defaults else actor.options
        values["priority"] = priority_of(actor.priority)
    expires_at = expiry(message.message_timestamp, options, NO_DEFAULTS if of_actor is None else of_actor)
    if expires_at is not None:
        values["expires_at"] = expires_at
    attempts = _attempts(options, of_actor)
    return Dispatch(
        job_request(values), id_of(message.message_id, int(message.message_timestamp)), attempts, barrier
    )


def with_eta(message: Message[Any], delay: int | None) -> Message[Any]:
    """Return the message with the option `eta`, by which Dramatiq's brokers say when it is due."""
    return message if delay is None else message.copy(options={"eta": current_millis() + delay})


def _delay_until(eta: object) -> int | None:
    """Return how long a message waits that was sent with the option `eta`; None if that is no number."""
    return int(eta) - current_millis() if isinstance(eta, int | float) and math.isfinite(eta) else None


def _attempts(options: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> int | None:
    """Return how many attempts a message has; None when the job's definition decides."""
    if defaults is not None and defaults.get("retry_when") is not None:
        return UNLIMITED_ATTEMPTS
    if "max_retries" not in options and defaults is None:
        return None
    retries = options.get("max_retries", (defaults or {}).get("max_retries", MAX_RETRIES))
    if retries is None:
        return UNLIMITED_ATTEMPTS
    return min(max(retries, 0) + 1, UNLIMITED_ATTEMPTS) if isinstance(retries, int) else None


def expiry(made_at: float, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> datetime | None:
    """Return when a message made at `made_at` (milliseconds) becomes too old to run; None: never."""
    max_age = options.get("max_age") or defaults.get("max_age")
    if not isinstance(max_age, int | float) or not 0 < made_at + max_age < _LATEST:
        return None
    return datetime.fromtimestamp((made_at + max_age) / 1000, UTC)


def _known_options(options: Mapping[str, Any]) -> dict[str, Any]:
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
    """Return a duration. One that is too long to be stored, also infinity, becomes the longest."""
    longest = LONGEST.total_seconds() * 1000
    return timedelta(milliseconds=min(milliseconds, longest))
