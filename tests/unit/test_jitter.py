"""The random numbers of delays and ids are our own: what a job does to the `random` module changes none."""

import os
import random
from typing import Any

import pytest
import tenacity

from callboard.jobs.attempts.put_off import delay_after
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.basics.waits import with_our_jitter
from callboard.jobs.model.retry import DEFAULT_WAIT, RetryPolicy
from tests.unit.test_retry import BOOM, SOON

RANDOM_WAITS = {
    "the default": DEFAULT_WAIT,
    "wait_random": tenacity.wait_random(1, 1_000),
    "wait_random_exponential": tenacity.wait_random_exponential(multiplier=100, max=3_600),
    "wait_exponential_jitter": tenacity.wait_exponential_jitter(jitter=1_000),
    "a sum": tenacity.wait_fixed(3) + tenacity.wait_random(0, 100),
    "a chain": tenacity.wait_chain(tenacity.wait_random(0, 100), tenacity.wait_none()),
}
POLICIES = {name: RetryPolicy(wait=wait) for name, wait in RANDOM_WAITS.items()} | {
    "Dramatiq's": RetryPolicy.from_dramatiq(),
    "Dramatiq's cap": RetryPolicy.from_dramatiq(min_backoff_ms=10_000, max_backoff_ms=1_000),
}


@pytest.fixture(autouse=True)
def _keeps_the_state():
    state = random.getstate()
    yield
    random.setstate(state)


def after_seed(draw: Any) -> Any:
    random.seed(1)
    return draw()


@pytest.mark.parametrize("name", POLICIES)
def test_retries_after_a_seed_have_delays_of_their_own(name):
    delays = {after_seed(lambda: POLICIES[name].decide(1, BOOM, SOON)) for _ in range(40)}
    assert len(delays) > 20


@pytest.mark.parametrize("name", POLICIES)
def test_a_delay_does_not_change_what_the_job_draws(name):
    random.seed(1)
    before = random.getstate()
    POLICIES[name].decide(1, BOOM, SOON)
    assert random.getstate() == before


def test_other_delays_and_ids_do_not_repeat_after_a_seed_either():
    assert len({after_seed(lambda: delay_after(3)) for _ in range(40)}) > 20
    assert len({after_seed(new_id).int & (2**62 - 1) for _ in range(40)}) == 40


@pytest.mark.parametrize("name", RANDOM_WAITS)
def test_a_wait_with_our_numbers_stays_within_the_bounds_of_tenacitys(name):
    wait = RANDOM_WAITS[name]
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    for state.attempt_number in (1, 2, 5, 50, 2_000):
        theirs = [wait(state) for _ in range(300)]
        ours = [with_our_jitter(wait)(state) for _ in range(300)]
        spread = max(theirs) - min(theirs) + 0.001
        assert min(ours) >= min(theirs) - spread / 4
        assert max(ours) <= max(theirs) + spread / 4


def test_a_strategy_of_the_users_is_left_as_it_is():
    class Own(tenacity.wait_random):
        def __call__(self, retry_state: tenacity.RetryCallState) -> float:
            return 9.0

    own = Own()
    assert with_our_jitter(own) is own


def test_a_copy_of_the_process_makes_ids_and_delays_of_its_own():
    def drawn() -> list[str]:
        return [str(new_id().int & (2**62 - 1)) for _ in range(3)] + [str(delay_after(3)) for _ in range(3)]

    new_id()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "\n".join(drawn()).encode())
        os._exit(0)
    here = drawn()
    os.waitpid(child, 0)
    there = os.read(read, 10_000).decode().split("\n")
    os.close(read)
    os.close(write)
    assert len(there) == len(here)
    assert not set(there) & set(here)
