"""The defaults that a broker's own middleware gives its actors, such as `Retries(max_retries=3)`.

Callboard does the work of this middleware. Its arguments still count.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import dramatiq
from dramatiq.middleware import AgeLimit, Middleware, Retries, ShutdownNotifications, TimeLimit

from callboard.jobs.dramatiq.stock import StandIn

#: The attributes of Dramatiq's middleware that are defaults of actor options with the same name.
_ATTRIBUTES: Final[tuple[tuple[type[Middleware], tuple[str, ...]], ...]] = (
    (Retries, ("max_retries", "min_backoff", "max_backoff", "retry_when")),
    (TimeLimit, ("time_limit",)),
    (AgeLimit, ("max_age",)),
    (ShutdownNotifications, ("notify_shutdown",)),
)
#: Without the middleware Retries, Dramatiq does not try a message again.
_NO_RETRIES: Final = {"max_retries": 0}


def defaults_of(middleware: Iterable[Middleware]) -> Mapping[str, Any]:
    """Return the actor options that the middleware of one broker sets for its actors."""
    every = list(middleware)
    found: dict[str, Any] = {} if any(isinstance(one, Retries) for one in every) else dict(_NO_RETRIES)
    for one in every:
        if isinstance(one, StandIn):
            continue
        for kind, names in _ATTRIBUTES:
            if isinstance(one, kind):
                values = {name: getattr(one, name, None) for name in names}
                # Only `max_retries=None` has a meaning of its own: no limit.
                found |= {
                    name: value for name, value in values.items()
                    if value is not None or (name == "max_retries" and hasattr(one, name))
                }  # fmt: skip
    return found


def options_of(actor: "dramatiq.Actor[..., Any]") -> Mapping[str, Any]:
    """Return the options of a plain actor: its own, and below them the defaults of its broker."""
    return {**defaults_of(actor.broker.middleware), **actor.options}
