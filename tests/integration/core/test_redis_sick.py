"""A Redis that is of no use holds nobody up, is told of by those who watch, and stops nothing that Postgres
can do.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta

import pytest
import redis

from callboard.api.readiness import Readiness, ReadinessCheck, ReadyStatus
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.operate.health import HealthChecks
from callboard.jobs.platform import Platform
from callboard.jobs.redis.link import Link
from callboard.jobs.redis.timed_connections import CALL_TIMEOUT
from callboard.jobs.redis.transport import Transport
from callboard.scheduler.feeder import Feeder
from callboard.workers.fetch.job_source import QueueOrder, TokenSource
from tests.e2e.sick_redis import SickRedis, cutting, garbling, of_another_kind, refusing, sick_redis
from tests.e2e.stage import own_servers
from tests.integration.core.factories import (
    FakeClock,
    claimed,
    enqueue,
    execution,
    run_sql,
    states,
    until,
    url_of,
)

OOM = refusing("OOM command not allowed when used memory > 'maxmemory'.")


@pytest.fixture(scope="module")
def proxy() -> Iterator[SickRedis]:
    with own_servers() as servers:
        servers.valkey.ensure()
        with sick_redis(f"{servers.valkey.socket_folder}/{servers.valkey.socket_name}") as made:
            yield made


@pytest.fixture
def sick(platform, proxy) -> Iterator[Platform]:
    """A platform whose Redis is behind the proxy."""
    proxy.heal()
    with redis.Redis.from_url(proxy.url) as client:
        client.flushdb()
    with closing(Platform(url_of(platform), proxy.url)) as made:
        yield made
    proxy.heal()


def popped(platform: Platform, block: float) -> list[bytes] | None:
    try:
        return platform.transport.pop(["q"], 1, block)
    except Unavailable:
        return None


class Failing:
    """Makes a link's calls fail, each at a cost of time."""

    def __init__(self, longest_pause=5.0):
        self.clock = FakeClock()
        self.link = Link("redis://127.0.0.1:1/0", longest_pause=longest_pause, clock=self.clock)
        self.tried = 0

    def fails(self, cost: float) -> str:
        def fail() -> None:
            self.tried += 1
            self.clock.advance(cost)
            raise ConnectionResetError("gone")

        with pytest.raises(Unavailable) as told, self.link.call("other"):
            fail()
        return told.value.message

    def works(self, cost: float = 0.0) -> None:
        with self.link.call("other"):
            self.tried += 1
            self.clock.advance(cost)


# ---- how long others are spared after a failure
# ---------------------------------------------------------------------


def test_after_a_costly_failure_nobody_tries_for_a_while_and_each_hears_why():
    made = Failing()
    assert made.fails(0.4) == made.fails(0.4) == "Redis does not answer: gone"
    assert made.tried == 1
    made.clock.advance(0.81)
    made.works()
    made.works()
    assert made.tried == 3


def test_the_pause_grows_with_each_failure_up_to_its_bound_and_a_success_ends_it():
    made = Failing(longest_pause=3.0)
    for pause in (0.8, 1.6, 3.0, 3.0):
        made.fails(0.4)
        made.clock.advance(pause - 0.01)
        tried = made.tried
        made.fails(0.4)
        assert made.tried == tried
        made.clock.advance(0.02)
    made.works()
    made.fails(0.4)
    made.clock.advance(0.81)
    made.works()


def test_a_failure_that_costs_nothing_spares_nobody():
    made = Failing()
    for _ in range(20):
        made.fails(0.001)
    assert made.tried == 20


def test_while_one_tries_the_others_are_refused():
    made = Failing()
    made.fails(0.4)
    made.clock.advance(1)
    with made.link.call("other"):
        made.fails(0.0)
    assert made.tried == 1
    made.works()


# ---- no call lasts longer than it may
# -------------------------------------------------------------------------------


@contextmanager
def dripping() -> Iterator[str]:
    """A server that sends a byte each 50 ms, for ever: no single read takes long, and no answer is ever
    whole.
    """
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        client, _ = listener.accept()
        # who hangs up in the middle has heard enough
        with client, suppress(OSError):
            while not ended.wait(0.05):
                client.sendall(b"+")

    server = threading.Thread(target=drip, daemon=True)
    server.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    finally:
        ended.set()
        server.join(5)
        listener.close()


def test_a_call_ends_in_time_even_when_bytes_keep_coming():
    with dripping() as url, closing(Transport(url)) as transport:
        began = SYSTEM.monotonic()
        with pytest.raises(Unavailable):
            transport.announce([new_id()])
        assert SYSTEM.monotonic() - began < 50 * CALL_TIMEOUT


def test_a_pop_may_block_longer_than_other_calls_on_a_connection_that_a_shorter_call_made(sick, proxy):
    proxy.answer = cutting
    with pytest.raises(Unavailable):
        sick.transport.pop(["q"], 1, 0.01)
    proxy.heal()
    until(lambda: popped(sick, 2 * CALL_TIMEOUT) == [])


@pytest.mark.parametrize("answer", [cutting, garbling, of_another_kind, OOM])
def test_who_waits_hears_of_the_end_and_goes_on_listening_whatever_redis_says(sick, proxy, answer):
    proxy.answer = answer
    waiting = sick.waiting
    job = enqueue(sick)[0]
    sick.control.cancel(job)
    # by its own looks, once a second
    assert waiting.wait(job, timedelta(seconds=30)).state == "cancelled"
    until(lambda: waiting._thread is not None)
    proxy.heal()
    assert waiting._thread.is_alive()


# ---- what goes on without it
# ----------------------------------------------------------------------------------------


def test_a_round_stages_and_expires_while_redis_is_full_and_feeds_all_once_it_is_not(sick, proxy):
    feeder = Feeder(sick, SYSTEM)
    proxy.answer = OOM
    due, expiring = enqueue(sick, delay="1h")[0], enqueue(sick, delay="1h")[0]
    run_sql(sick, "UPDATE callboard.jobs SET run_at = now() WHERE id = :id", id=due)
    run_sql(sick, "UPDATE callboard.jobs SET expires_at = now() - interval '1s' WHERE id = :id", id=expiring)
    with pytest.raises(Unavailable, match="maxmemory"):
        feeder.round()
    assert states(sick, [due, expiring]) == ["queued", "cancelled"]
    proxy.heal()
    assert feeder.round() == 1


def test_a_foreign_value_in_one_queues_place_keeps_no_queue_from_being_fed(sick, proxy):
    enqueue(sick, queue="a")
    enqueue(sick, queue="b")
    with redis.Redis.from_url(proxy.url) as client:
        client.flushdb()
        client.set(sick.transport.queue_key("a"), "mine")
    Feeder(sick, SYSTEM).round()
    assert sick.transport.depth("a") == sick.transport.depth("b") == 1


def test_what_was_enqueued_while_pushes_failed_is_found_in_postgres_though_pops_work(sick, proxy):
    proxy.answer = OOM
    jobs = enqueue(sick, 3)
    proxy.heal()
    with execution(sick) as worker:
        hints = TokenSource(QueueOrder(worker, [], {}, FakeClock()), sick.transport, worker.worker)
        assert hints.pop(["other", "reports"], [10, 10], 0.01) is None
        assert hints.worth_asking(["other", "reports"]) == ["reports"]
        found = worker.claim_oldest("reports", 10)
        assert {job.id for job in found} == set(jobs)
        hints.asked(len(found), everywhere=True)
        # as long as there is more, Postgres is asked again at once; after that every other second
        assert hints.pop(["reports"], [10], 0.01) is None
        # nothing for those that have room says nothing of the others
        hints.asked(0, everywhere=False)
        assert hints.pop(["reports"], [10], 0.01) is None
        hints.asked(0, everywhere=True)
        assert hints.worth_asking(["reports"]) == []
        assert hints.pop(["reports"], [10], 0.01) == []
        assert not hints.away


def test_claims_without_tokens_leave_out_what_is_paused(sick):
    enqueue(sick)
    sick.queues.pause("reports")
    with execution(sick) as worker:
        assert worker.claim_oldest("reports", 10) == []
        sick.queues.resume("reports")
        assert len(worker.claim_oldest("reports", 10)) == 1


def test_a_job_that_is_claimed_from_postgres_is_not_claimed_by_its_token_as_well(sick):
    with execution(sick) as first, execution(sick) as second:
        job = enqueue(sick)[0]
        assert [one.id for one in first.claim_oldest("reports", 5)] == [job]
        assert second.claim([(job, 0)]) == []
        assert claimed(sick, second)


# ---- those who watch say so
# -----------------------------------------------------------------------------------------


def readiness(platform):
    return asyncio.run(ReadinessCheck(platform).current())


@pytest.mark.parametrize(
    "answer",
    [
        OOM,
        refusing("READONLY You can't write against a read only replica."),
        refusing("LOADING"),
        garbling,
        of_another_kind,
        cutting,
    ],
)
def test_readiness_and_doctor_name_a_redis_that_answers_and_is_of_no_use(sick, proxy, answer):
    proxy.answer = answer
    checks = {"database": "ok", "migrations": "ok", "redis": "unavailable"}
    assert readiness(sick) == Readiness(ReadyStatus.DEGRADED, checks, ["redis"])
    redis_check = next(
        check
        for check in HealthChecks(sick.database, proxy.url, sick.migrations).checks()
        if check.name == "redis"
    )
    assert redis_check.status == "warn"
    assert redis_check.mend
    proxy.heal()
    until(lambda: readiness(sick).status == ReadyStatus.READY)
