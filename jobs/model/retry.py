"""Retry policies: whether and when a failed attempt is tried again.

A policy uses tenacity's strategies. It asks them once per failed attempt, in the process that ran the
attempt.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

import tenacity
from tenacity.retry import RetryBaseT, retry_base
from tenacity.stop import StopBaseT
from tenacity.wait import WaitBaseT, wait_base, wait_random_exponential

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.jitter import JITTER
from callboard.jobs.model.basics.plain_text import class_path, readable, shortened
from callboard.jobs.model.basics.waits import KNOWN, seconds_of, with_our_jitter
from callboard.jobs.model.outcomes import Retry

#: Stands for "no limit" in the integer column `max_attempts`.
UNLIMITED_ATTEMPTS: Final = 1_000_000
LONGEST_DELAY: Final = timedelta(days=30)

#: Exponential with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
DEFAULT_WAIT: Final = wait_random_exponential(multiplier=1, max=3600)

#: Dramatiq's defaults.
MAX_RETRIES: Final = 20
_DRAMATIQ_MIN_BACKOFF_MS: Final = 15_000
_DRAMATIQ_MAX_BACKOFF_MS: Final = 7 * 86_400_000

#: The longest text about a policy that failed. Characters.
_LONGEST_PROBLEM: Final = 400

Exceptions = tuple[type[BaseException], ...]


class PolicyFailed(Exception):
    """A part of a retry policy raised an error or returned a value that cannot be used.

    The message is one line that names the part and the error.
    """


class Bounds(NamedTuple):
    """The shortest and the longest delay before a job's retry, in seconds. None: the policy decides."""

    least: float | None = None
    most: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> "Bounds | None":
        """Return the bounds in a job's options; None when it has none."""
        if not options:
            return None
        least, most = options.get("min_backoff"), options.get("max_backoff")
        return None if least is None and most is None else cls(least, most)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, when and after which errors a job is tried again.

    max_attempts: the number of attempts, including the first. 1: no retries.
    wait:         a tenacity wait strategy: the delay before the next attempt.
    stop:         a tenacity stop strategy that ends the retries before max_attempts, such as
                  stop_after_delay(timedelta(hours=6)). The time counts from the start of the first attempt.
    retry:        a tenacity retry strategy that decides which errors are retried. None: all errors.
    retry_on:     retry these exceptions only. None: all exceptions.
    never_on:     never retry these exceptions. It overrides `retry` and `retry_on`.
    """

    max_attempts: int = 10
    wait: WaitBaseT = DEFAULT_WAIT
    stop: StopBaseT | None = None
    retry: RetryBaseT | None = None
    retry_on: Exceptions | None = None
    never_on: Exceptions = ()

    def __post_init__(self) -> None:
        if type(self.max_attempts) is not int or not 1 <= self.max_attempts <= UNLIMITED_ATTEMPTS:
            raise _bad("max_attempts", f"a whole number from 1 to {UNLIMITED_ATTEMPTS:,}")
        if not callable(self.wait):
            raise _bad("wait", "one of tenacity's wait strategies, such as wait_fixed(30)")
        if self.stop is not None and not callable(self.stop):
            raise _bad("stop", "one of tenacity's stop strategies, such as stop_after_delay(3600)")
        if self.retry is not None and not callable(self.retry):
            raise _bad(
                "retry", "one of tenacity's retry strategies, such as retry_if_exception_type(OSError)"
            )
        if self.retry_on is not None and not _are_exceptions(self.retry_on):
            raise _bad("retry_on", "a tuple of exception classes, such as (OSError,)")
        if not _are_exceptions(self.never_on):
            raise _bad("never_on", "a tuple of exception classes, such as (ValueError,)")

    def decide(
        self,
        attempt: int,
        exception: BaseException,
        since_first: timedelta,
        max_attempts: int | None = None,
        bounds: "Bounds | None" = None,
        *,
        delay: timedelta | None = None,
    ) -> timedelta | None:
        """Return the delay before the next attempt, from 0 to 30 days; None when there is no next attempt.

        attempt:      the number of the attempt that failed, from 1.
        since_first:  the time from the start of the first attempt to this failure.
        max_attempts: the job's own number of attempts; None: the policy's.
        bounds:       the job's own bounds of the delay; None: no bounds.

        delay:        the delay that the error itself asks for, if there is a next attempt; None: `wait`
                      decides.

        When the exception is Retry, `retry` and `retry_on` are not used.

        The strategies are the user's code and may raise any exception, SystemExit too. It is raised again as
        PolicyFailed. The caller must handle that as an error of the policy, not of the job, and must still
        end the attempt.
        """
        with _part("never_on"):
            if isinstance(exception, self.never_on):
                return None
        if attempt >= (self.max_attempts if max_attempts is None else max_attempts):
            return None
        state = _call_state(attempt, exception, since_first)
        if not issubclass(type(exception), Retry) and not self._is_retried(state, exception):
            return None
        with _part("wait"):
            seconds = self._wait(state, bounds) if delay is None else delay.total_seconds()
            state.upcoming_sleep = seconds_of(seconds, LONGEST_DELAY.total_seconds())
        with _part("stop"):
            if self.stop is not None and self.stop(state):
                return None
        return timedelta(seconds=state.upcoming_sleep)

    @property
    def runs_own_code(self) -> bool:
        """Whether `decide` may run code of the user's: functions, and classes that are not tenacity's."""
        classes = (*self.never_on, *(self.retry_on or ()))
        return (
            type(self.wait) not in _KNOWN_WAITS
            or self.retry is not None
            or (self.stop is not None and type(self.stop) not in _KNOWN_STOPS)
            or any(type(one) is not type for one in classes)
        )

    def _wait(self, state: tenacity.RetryCallState, bounds: "Bounds | None") -> float:
        if isinstance(self.wait, DramatiqBackoff):
            return (self.wait if bounds is None else self.wait.within(bounds))(state)
        seconds: float = with_our_jitter(self.wait)(state)
        if bounds is None:
            return seconds
        least = bounds.least or 0.0
        most = math.inf if bounds.most is None else max(bounds.most, least)
        return min(max(seconds_of(seconds, math.inf), least), most)

    def _is_retried(self, state: tenacity.RetryCallState, exception: BaseException) -> bool:
        with _part("retry_on"):
            if self.retry_on is not None and not isinstance(exception, self.retry_on):
                return False
        with _part("retry"):
            return self.retry is None or bool(self.retry(state))

    @classmethod
    def from_dramatiq(
        cls,
        *,
        max_retries: int | None = MAX_RETRIES,
        min_backoff_ms: int | None = None,
        max_backoff_ms: int | None = None,
        throws: type[BaseException] | Exceptions | None = None,
        retry_when: Callable[[int, BaseException], bool] | None = None,
    ) -> "RetryPolicy":
        """Make a policy that does what Dramatiq 2.2's Retries middleware does with an actor's options.

        max_retries: the number of retries. None: no limit. With `retry_when` it has no effect, as in
                     Dramatiq.
        throws:      exceptions that are never retried.
        retry_when:  gets the number of retries so far and the exception; returns whether to retry.
        """
        if max_retries is not None and (
            type(max_retries) is not int or not 0 <= max_retries < UNLIMITED_ATTEMPTS
        ):
            raise _bad("max_retries", f"a whole number from 0 to {UNLIMITED_ATTEMPTS - 1:,}, or None")
        if retry_when is not None and not callable(retry_when):
            raise _bad("retry_when", "a function of the number of retries so far and the exception")
        never_on = (throws,) if isinstance(throws, type) else tuple(throws or ())
        if not _are_exceptions(never_on):
            raise _bad("throws", "an exception class or a tuple of them")
        return cls(
            max_attempts=UNLIMITED_ATTEMPTS
            if max_retries is None or retry_when is not None
            else max_retries + 1,
            wait=DramatiqBackoff(
                _DRAMATIQ_MIN_BACKOFF_MS if min_backoff_ms is None else min_backoff_ms,
                _DRAMATIQ_MAX_BACKOFF_MS if max_backoff_ms is None else max_backoff_ms,
            ),
            retry=None if retry_when is None else _RetryWhen(retry_when),
            never_on=never_on,
        )


class DramatiqBackoff(wait_base):
    """Dramatiq's delays: min_backoff, doubled for each retry, times a random factor from 1 to 2.

    A delay above max_backoff becomes a random delay between half of max_backoff and max_backoff.
    """

    def __init__(self, min_backoff_ms: int, max_backoff_ms: int) -> None:
        for name, value in (("min_backoff", min_backoff_ms), ("max_backoff", max_backoff_ms)):
            if type(value) is not int or value < 0:
                raise _bad(name, "a number of milliseconds, 0 or more")
        self._min = min(min_backoff_ms, _DRAMATIQ_MAX_BACKOFF_MS)
        self._max = min(max_backoff_ms, _DRAMATIQ_MAX_BACKOFF_MS)

    def within(self, bounds: Bounds) -> "DramatiqBackoff":
        """Return a copy that uses a message's own bounds instead of the actor's."""
        return DramatiqBackoff(
            self._min if bounds.least is None else round(bounds.least * 1000),
            self._max if bounds.most is None else round(bounds.most * 1000),
        )

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        retries = min(retry_state.attempt_number - 1, 32)
        milliseconds = int(self._min * 2**retries * JITTER.uniform(1, 2))
        if milliseconds > self._max:
            milliseconds = int(self._max * JITTER.uniform(0.5, 1))
        return milliseconds / 1000


_KNOWN_WAITS: Final = KNOWN | {DramatiqBackoff}
_KNOWN_STOPS: Final = frozenset(
    {tenacity.stop_after_attempt, tenacity.stop_after_delay, tenacity.stop_before_delay}
)


class _RetryWhen(retry_base):
    """Dramatiq's `retry_when` as a tenacity strategy. The predicate gets the number of retries so far."""

    def __init__(self, predicate: Callable[[int, BaseException], bool]) -> None:
        self._predicate = predicate

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        exception = retry_state.outcome.exception() if retry_state.outcome is not None else None
        return exception is not None and self._predicate(retry_state.attempt_number - 1, exception)


@contextmanager
def _part(name: str) -> Iterator[None]:
    """Raise PolicyFailed for any error of this part of a policy."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - the user's code may also exit
        failed = f"{name} of the retry policy failed: {class_path(type(error))}: {readable(error)}"
        raise PolicyFailed(shortened(failed, _LONGEST_PROBLEM)) from None


def _call_state(attempt: int, exception: BaseException, since_first: timedelta) -> tenacity.RetryCallState:
    """Make the state that tenacity would have now if it had run all attempts itself."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    state.outcome = tenacity.Future.construct(attempt, exception, has_exception=True)
    state.start_time = 0.0
    state.outcome_timestamp = max(0.0, since_first.total_seconds())
    return state


def _are_exceptions(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(item, type) and issubclass(item, BaseException) for item in value
    )


def _bad(name: str, expected: str) -> InvalidInput:
    return InvalidInput(f"RetryPolicy: {name} must be {expected}", fields={name: f"must be {expected}"})
