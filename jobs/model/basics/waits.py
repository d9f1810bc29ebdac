"""tenacity's wait strategies with random numbers of our own, see jitter.py."""

import copy
from decimal import Decimal
from numbers import Real
from typing import Any, Final

import tenacity
from tenacity import wait as waits

from callboard.jobs.model.basics.jitter import JITTER

#: Strategies that run no code of the user's.
KNOWN: Final = frozenset(
    {
        waits.wait_fixed, waits.wait_none, waits.wait_random, waits.wait_incrementing, waits.wait_exponential,
        waits.wait_random_exponential, waits.wait_exponential_jitter,
    }
)  # fmt: skip


def with_our_jitter(wait: Any) -> Any:
    """Return a wait strategy that does the same with our own random numbers.

    Covers tenacity's own classes, also inside `wait_chain` and sums. A function or a class of the user's is
    returned as it is.
    """
    kind = type(wait)
    if kind is waits.wait_combine:
        return waits.wait_combine(*map(with_our_jitter, wait.wait_funcs))
    if kind is waits.wait_chain:
        return waits.wait_chain(*map(with_our_jitter, wait.strategies))
    ours = _OURS.get(kind)
    if ours is None:
        return wait
    made = copy.copy(wait)
    made.__class__ = ours
    return made


class _Random(waits.wait_random):
    def __call__(self, retry_state: tenacity.RetryCallState) -> float:  # noqa: ARG002
        return JITTER.uniform(self.wait_random_min, self.wait_random_max)


class _RandomExponential(waits.wait_random_exponential):
    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        return JITTER.uniform(self.min, waits.wait_exponential.__call__(self, retry_state))


class _ExponentialJitter(waits.wait_exponential_jitter):
    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        exponential = waits.wait_exponential(multiplier=self.multiplier, max=self.max, exp_base=self.exp_base)
        seconds = exponential(retry_state) + JITTER.uniform(0, self.jitter)
        return max(0, self.min, min(seconds, self.max))


_OURS: Final[dict[type, type]] = {
    waits.wait_random: _Random,
    waits.wait_random_exponential: _RandomExponential,
    waits.wait_exponential_jitter: _ExponentialJitter,
}


def seconds_of(value: Any, longest: float) -> float:
    """Return a delay in seconds as a float from 0 to `longest`. Raises TypeError unless it is a number."""
    if not isinstance(value, Real | Decimal):
        raise TypeError(f"a delay is a number of seconds, not {type(value).__name__[:60]}")
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        raise TypeError("a delay is a number of seconds, not NaN")
    # Compared before it is converted: a float cannot hold 10**400.
    return 0.0 if value <= 0 else float(min(value, longest))
