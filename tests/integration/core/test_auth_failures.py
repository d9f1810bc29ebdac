"""The limit on failed authentications: by address, shared by processes, with and without Redis."""

from contextlib import closing

import pytest
import redis
import structlog

from callboard.jobs.access import auth_failures
from callboard.jobs.access.auth_failures import MOST_FAILURES, WINDOW, AuthFailures
from callboard.jobs.errors import RateLimited
from callboard.jobs.metrics import AUTH_FAILURES
from callboard.jobs.redis.window_counter import OTHERS, WindowCounter
from tests.integration.core.factories import NOWHERE, FakeClock, at_once

ADDRESS = "198.51.100.7"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(platform, redis_url, clock):
    """Makes the limits of several processes over one Redis."""
    counters = []

    def make(url=redis_url, most=auth_failures.MOST_ADDRESSES):
        counters.append(
            WindowCounter(url, prefix="callboard", name="auth-failures", window=WINDOW, most=most)
        )
        return AuthFailures(counters[-1], clock=clock)

    yield make
    for counter in counters:
        counter.close()


def refused(failures, address=ADDRESS):
    """The error for one more failure; None when there is none."""
    try:
        failures.count(address)
    except RateLimited as error:
        return error
    return None


def use_up(failures, address=ADDRESS):
    assert [refused(failures, address) for _ in range(MOST_FAILURES)] == [None] * MOST_FAILURES


@pytest.mark.parametrize("away", [False, True], ids=["Redis", "no Redis"])
def test_beyond_the_limit_an_address_is_refused_until_the_window_ends(make, clock, away):
    failures = make(NOWHERE) if away else make()
    use_up(failures)
    clock.advance(12.5)
    error = refused(failures)
    # The clock began at the start of a window.
    assert error.retry_after == 48
    assert "try again in 48 s" in error.message
    assert refused(failures, "198.51.100.8") is None
    clock.advance(error.retry_after)
    assert refused(failures) is None


def test_processes_share_the_count(make):
    one, other = make(), make()
    use_up(one)
    assert refused(other).code == "RATE_LIMITED"
    assert refused(one).code == "RATE_LIMITED"


def test_without_redis_each_process_counts_alone_and_forgets_nothing_when_it_is_back(make, redis_url):
    one, alone = make(), make(NOWHERE)
    use_up(one)
    use_up(alone)
    assert refused(alone) is not None
    with closing(redis.Redis.from_url(redis_url)) as client:
        client.flushdb()
    assert refused(one) is not None


@pytest.mark.parametrize(
    ("addresses", "apart"),
    [
        (["2001:db8:0:1::1", "2001:db8:0:1:ffff::9"], ["2001:db8:0:2::1"]),
        (["198.51.100.7", "::ffff:198.51.100.7"], ["198.51.100.8"]),
        (["fe80::1", "fe80::2%eth0"], ["fe80:0:0:1::1"]),
        (["", "testclient", "x" * 10_000], ["198.51.100.7"]),
    ],
)
def test_addresses_that_one_client_can_have_count_together(make, addresses, apart):
    failures = make()
    use_up(failures, addresses[0])
    assert all(refused(failures, address) for address in addresses)
    assert not any(refused(failures, address) for address in apart)


def test_redis_is_asked_only_up_to_the_limit_and_the_log_says_it_once(make, monkeypatch):
    asked = []
    add = WindowCounter.add
    monkeypatch.setattr(WindowCounter, "add", lambda *given: asked.append(given) or add(*given))
    logger = structlog.testing.CapturingLogger()
    monkeypatch.setattr(auth_failures, "log", logger)
    before = {result: AUTH_FAILURES.labels(result)._value.get() for result in ("refused", "rate_limited")}
    failures = make()
    use_up(failures)
    for _ in range(30):
        assert refused(failures)
    assert len(asked) == MOST_FAILURES
    told = [(call.method_name, call.args, call.kwargs) for call in logger.calls]
    assert told == [("warning", ("auth.rate_limited",), {"client": ADDRESS, "failures": MOST_FAILURES + 1})]
    counted = {result: AUTH_FAILURES.labels(result)._value.get() - before[result] for result in before}
    assert counted == {"refused": MOST_FAILURES, "rate_limited": 30}


def test_a_process_that_redis_tells_of_the_limit_asks_no_more(make, monkeypatch):
    use_up(make())
    other = make()
    assert refused(other)
    monkeypatch.setattr(WindowCounter, "add", None)
    assert refused(other)


@pytest.mark.parametrize("away", [False, True], ids=["Redis", "no Redis"])
def test_the_number_of_addresses_is_bounded_and_further_ones_count_together(
    make, redis_url, monkeypatch, away
):
    monkeypatch.setattr(auth_failures, "MOST_ADDRESSES", 1_000 if not away else 10)
    failures = make(NOWHERE) if away else make(most=10)
    for number in range(100):
        refused(failures, f"198.51.100.{number}")
    assert refused(failures, "203.0.113.9")
    # An address that has a count of its own keeps it.
    assert refused(failures, "198.51.100.0") is None
    if away:
        assert len(failures._counts) <= 11
        return
    with closing(redis.Redis.from_url(redis_url)) as client:
        (key,) = client.keys("*auth-failures*")
        assert key.startswith(b"callboard:auth-failures:")
        assert client.hlen(key) == 11
        assert int(client.hget(key, OTHERS)) >= 90
        assert 0 < client.ttl(key) <= 2 * WINDOW.total_seconds()


def test_threads_count_every_failure(make):
    failures = make()
    results = at_once(30, lambda _: refused(failures))
    assert sum(result is not None for result in results) == 30 - MOST_FAILURES
