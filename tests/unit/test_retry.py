"""When a failed attempt is tried again."""

import random
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import dramatiq
import pytest
import tenacity
from dramatiq.common import compute_backoff
from dramatiq.middleware import Retries
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity.wait import wait_chain, wait_exponential, wait_fixed, wait_random_exponential

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model import retry
from callboard.jobs.model.outcomes import Retry
from callboard.jobs.model.retry import LONGEST_DELAY, UNLIMITED_ATTEMPTS, Bounds, PolicyFailed, RetryPolicy
from callboard.workers.execute.attempt import delay_of

SOON = timedelta(seconds=5)
BOOM = ValueError("boom")


def fixed(seconds: float = 7, **options) -> RetryPolicy:
    return RetryPolicy(wait=wait_fixed(seconds), **options)


def test_the_default_is_ten_attempts_with_full_jitter_up_to_an_hour():
    policy = RetryPolicy()
    for attempt in range(1, 10):
        delay = policy.decide(attempt, BOOM, SOON)
        assert delay is not None
        assert timedelta(0) <= delay <= timedelta(seconds=min(2 ** (attempt - 1), 3600))
    assert policy.decide(10, BOOM, SOON) is None


def test_one_attempt_is_never_retried():
    assert fixed(max_attempts=1).decide(1, BOOM, SOON) is None


def test_the_jobs_own_limit_comes_first():
    policy = fixed(max_attempts=3)
    assert policy.decide(5, BOOM, SOON, max_attempts=6) == timedelta(seconds=7)
    assert policy.decide(2, BOOM, SOON, max_attempts=2) is None


def test_tenacitys_wait_knows_the_number_of_the_attempt():
    policy = RetryPolicy(wait=wait_chain(wait_fixed(1), wait_fixed(5), wait_fixed(60)))
    assert [policy.decide(n, BOOM, SOON).total_seconds() for n in (1, 2, 3, 4)] == [1, 5, 60, 60]
    assert RetryPolicy(wait=wait_exponential(multiplier=2)).decide(4, BOOM, SOON) == timedelta(seconds=16)


def test_tenacitys_wait_knows_the_error():
    policy = RetryPolicy(wait=tenacity.wait_exception(lambda error: float(str(error))))
    assert policy.decide(1, RuntimeError("90"), SOON) == timedelta(seconds=90)


def test_tenacitys_stop_counts_from_the_first_attempt():
    policy = fixed(stop=tenacity.stop_after_delay(60))
    assert policy.decide(1, BOOM, timedelta(seconds=59)) is not None
    assert policy.decide(1, BOOM, timedelta(seconds=60)) is None


def test_tenacitys_stop_knows_the_coming_delay():
    policy = fixed(10, stop=tenacity.stop_before_delay(60))
    assert policy.decide(1, BOOM, timedelta(seconds=49)) is not None
    assert policy.decide(1, BOOM, timedelta(seconds=50)) is None


def test_stops_combine_as_in_tenacity():
    policy = fixed(stop=tenacity.stop_after_attempt(2) | tenacity.stop_after_delay(60))
    assert policy.decide(1, BOOM, SOON) is not None
    assert policy.decide(2, BOOM, SOON) is None


def test_a_clock_that_went_back_does_not_stop_anything():
    assert fixed(stop=tenacity.stop_after_delay(60)).decide(1, BOOM, timedelta(seconds=-90)) is not None


def test_tenacitys_retry_judges_the_error():
    policy = fixed(
        retry=tenacity.retry_if_exception_type(OSError) | tenacity.retry_if_exception_message("boom")
    )
    assert policy.decide(1, ConnectionError(), SOON) is not None
    assert policy.decide(1, BOOM, SOON) is not None
    assert policy.decide(1, KeyError("x"), SOON) is None


def test_plain_functions_are_strategies_too():
    policy = RetryPolicy(
        wait=lambda state: state.attempt_number * 10,
        stop=lambda state: state.attempt_number > 2,
        retry=lambda _: True,
    )
    assert policy.decide(2, BOOM, SOON) == timedelta(seconds=20)
    assert policy.decide(3, BOOM, SOON) is None


def test_only_the_errors_of_retry_on_are_retried_and_those_of_never_on_never():
    policy = fixed(retry_on=(OSError,), never_on=(FileNotFoundError,))
    assert policy.decide(1, TimeoutError(), SOON) is not None
    assert policy.decide(1, FileNotFoundError(), SOON) is None
    assert policy.decide(1, BOOM, SOON) is None


def test_an_error_that_is_no_exception_is_judged_alike():
    assert fixed().decide(1, SystemExit(3), SOON) == timedelta(seconds=7)


def test_a_job_that_asks_for_a_retry_gets_it_within_its_attempts():
    policy = fixed(max_attempts=3, retry_on=(OSError,), retry=tenacity.retry_never)
    assert policy.decide(1, Retry("30s"), SOON, delay=timedelta(seconds=30)) == timedelta(seconds=30)
    assert policy.decide(1, Retry(), SOON) == timedelta(seconds=7)
    assert policy.decide(1, Retry(timedelta(0)), SOON, delay=timedelta(0)) == timedelta(0)
    assert policy.decide(3, Retry("30s"), SOON, delay=timedelta(seconds=30)) is None


@pytest.mark.parametrize(
    ("wait", "delay"),
    [
        (-5, timedelta(0)),
        (float("inf"), LONGEST_DELAY),
        (1e300, LONGEST_DELAY),
        (10**400, LONGEST_DELAY),
        (float("-inf"), timedelta(0)),
        (Decimal("1.5"), timedelta(seconds=1.5)),
        (Decimal("1e9"), LONGEST_DELAY),
    ],
)
def test_a_delay_is_bounded(wait, delay):
    assert RetryPolicy(wait=lambda _: wait).decide(1, BOOM, SOON) == delay


@pytest.mark.parametrize("bounds", [None, Bounds(1.0, 5.0)])
@pytest.mark.parametrize("wait", [None, "x", float("nan"), Decimal("NaN"), timedelta(seconds=1), [1], 1j])
def test_a_delay_that_is_no_number_is_an_error_of_the_policy(wait, bounds):
    with pytest.raises(
        PolicyFailed, match=r"^wait of the retry policy failed: TypeError: a delay is a number"
    ):
        RetryPolicy(wait=lambda _: wait).decide(1, BOOM, SOON, bounds=bounds)


@settings(deadline=None)
@given(attempt=st.integers(1, UNLIMITED_ATTEMPTS), seconds=st.floats(-1e9, 1e9))
def test_every_attempt_of_an_endless_policy_has_a_delay_within_bounds(attempt, seconds):
    for wait in (wait_random_exponential(max=3600), wait_exponential(), wait_fixed(1)):
        policy = RetryPolicy(max_attempts=UNLIMITED_ATTEMPTS, wait=wait)
        delay = policy.decide(attempt, BOOM, timedelta(seconds=seconds))
        assert (delay is None) == (attempt == UNLIMITED_ATTEMPTS)
        assert delay is None or timedelta(0) <= delay <= LONGEST_DELAY


@pytest.mark.parametrize("strategy", ["wait", "stop", "retry"])
def test_an_error_in_a_strategy_is_named_to_the_caller(strategy):
    def broken(_: tenacity.RetryCallState) -> float:
        raise ZeroDivisionError

    with pytest.raises(PolicyFailed, match=f"^{strategy} of the retry policy failed: ZeroDivisionError"):
        RetryPolicy(**{strategy: broken}).decide(1, BOOM, SOON)


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0}, {"max_attempts": -1}, {"max_attempts": True}, {"max_attempts": 2.0},
        {"max_attempts": UNLIMITED_ATTEMPTS + 1}, {"max_attempts": None}, {"wait": 5}, {"wait": None},
        {"stop": 5}, {"retry": "x"}, {"retry_on": OSError}, {"retry_on": ("x",)}, {"never_on": None},
        {"never_on": (int,)},
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused_by_name(options):
    with pytest.raises(InvalidInput, match=next(iter(options))):
        RetryPolicy(**options)


class FakeMessage:
    """What Dramatiq's Retries needs of a message: its options, and whether it was given up."""

    def __init__(self, retries: int) -> None:
        self.message_id, self.actor_name = "m", "a"
        self.options = {"retries": retries}
        self.failed = False

    def fail(self) -> None:
        self.failed = True


def dramatiqs_answer(attempt: int, exception: BaseException, **options) -> timedelta | None:
    """What the real middleware does with this failure."""
    delays: list[int] = []
    broker = SimpleNamespace(
        get_actor=lambda _: SimpleNamespace(options=options),
        enqueue=lambda _, delay: delays.append(delay),
    )
    Retries().after_process_message(broker, message := FakeMessage(attempt - 1), exception=exception)
    assert message.failed != bool(delays)
    return timedelta(milliseconds=delays[0]) if delays else None


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_retries": st.one_of(st.none(), st.integers(0, 30)),
        "min_backoff": st.integers(0, 10**6),
        "max_backoff": st.integers(0, 10**10),
        "throws": st.sampled_from([ValueError, (KeyError, OSError)]),
        "retry_when": st.sampled_from(
            [lambda retries, _: retries < 3, lambda _, error: isinstance(error, OSError)]
        ),
    },
)
ERRORS = st.sampled_from(
    [ValueError(), KeyError(), TimeoutError(), dramatiq.errors.Retry(delay=1_234), dramatiq.errors.Retry()]
)


@settings(deadline=None)
@given(attempt=st.integers(1, 60), error=ERRORS, options=OPTIONS, seed=st.integers(0, 2**32))
def test_a_policy_from_dramatiqs_options_decides_as_dramatiq_does(attempt, error, options, seed):
    renamed = {
        {"min_backoff": "min_backoff_ms", "max_backoff": "max_backoff_ms"}.get(k, k): v
        for k, v in options.items()
    }
    state = random.getstate()
    try:
        random.seed(seed)
        expected = dramatiqs_answer(attempt, error, **options)
    finally:
        random.setstate(state)
    policy = RetryPolicy.from_dramatiq(**renamed)
    ask = delay_of(error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "JITTER", random.Random(seed))
        assert policy.decide(attempt, error, SOON, delay=None if ask is None else ask()) == expected


def test_dramatiqs_defaults_are_its_own():
    assert compute_backoff(0, factor=15_000, jitter=False, max_backoff=10**9)[1] == 15_000
    policy = RetryPolicy.from_dramatiq()
    assert policy.max_attempts == Retries().max_retries + 1 == 21
    first = policy.decide(1, BOOM, SOON)
    assert first is not None
    assert timedelta(seconds=15) <= first <= timedelta(seconds=30)
    assert policy.decide(21, BOOM, SOON) is None


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": -1}, {"max_retries": True}, {"min_backoff_ms": -1}, {"max_backoff_ms": 1.5},
        {"throws": (3,)}, {"retry_when": "x"},
    ],
)  # fmt: skip
def test_what_dramatiq_could_not_mean_is_refused_by_name(options):
    with pytest.raises(InvalidInput, match=next(iter(options)).removesuffix("_ms")):
        RetryPolicy.from_dramatiq(**options)


def test_a_jobs_own_bounds_hold_the_delay_of_any_policy():
    assert fixed(7).decide(1, BOOM, SOON, None, Bounds(least=30)) == timedelta(seconds=30)
    assert fixed(7).decide(1, BOOM, SOON, None, Bounds(most=3)) == timedelta(seconds=3)
    assert fixed(7).decide(1, BOOM, SOON, None, Bounds(5, 10)) == timedelta(seconds=7)
    # a delay that the job itself names is not bounded
    assert fixed(7).decide(1, BOOM, SOON, None, Bounds(least=30), delay=timedelta(seconds=2)) == timedelta(
        seconds=2
    )


def test_a_messages_bounds_stand_in_for_those_of_its_dramatiq_actor():
    policy = RetryPolicy.from_dramatiq(min_backoff_ms=100_000, max_backoff_ms=200_000)
    for attempt in range(1, 6):
        delay = policy.decide(attempt, BOOM, SOON, None, Bounds(1.0, 4.0))
        assert delay is not None
        assert timedelta(seconds=1) <= delay <= timedelta(seconds=4)
    lower = policy.decide(1, BOOM, SOON, None, Bounds(most=0.1))
    assert lower is not None
    assert timedelta(seconds=0.05) <= lower <= timedelta(seconds=0.1)


@pytest.mark.parametrize(
    ("options", "bounds"),
    [
        (None, None), ({}, None), ({"message": {"min_backoff": 5}}, None),
        ({"min_backoff": 0}, Bounds(least=0)), ({"max_backoff": 2.5}, Bounds(most=2.5)),
    ],
)  # fmt: skip
def test_bounds_are_read_from_a_jobs_options(options, bounds):
    assert Bounds.of(options) == bounds
