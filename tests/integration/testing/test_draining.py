"""`drain`: runs what is due against real servers, in this process, with a clock that can be moved."""

import asyncio
import logging
import threading
import time
from datetime import timedelta

import dramatiq
import psycopg
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries
from sqlalchemy import text

from callboard import Client, RetryPolicy, Snooze, Unique, current_job, job
from callboard.jobs import client as client_module
from callboard.jobs.errors import InvalidArguments, InvalidInput, UnknownJob
from callboard.jobs.postgres.sql import SCHEMA
from callboard.jobs.schedules.manage import schedule_request
from callboard.testing import Drain, Drained, Enqueued, run

ran: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran():
    ran.clear()


@job
def drained_chain(n: int):
    ran.append(n)
    current_job().progress(0.5, "half")
    current_job().log.info("link", n=n)
    if n:
        drained_chain.enqueue(n - 1)


@job(retry=RetryPolicy(max_attempts=3))
def drained_flaky():
    raise ConnectionError("no line")


@job
async def drained_async(n: int) -> int:
    await asyncio.sleep(0)
    ran.append(threading.current_thread().name)
    return n * 2


@job
def drained_snoozing():
    ran.append("snoozed")
    if len(ran) < 3:
        raise Snooze("1h")


@job(unique=Unique(by=("n",)), queue="drained-once")
def drained_once(n: int): ...


@job
def drained_endless():
    drained_endless.enqueue()


@job
def drained_stopping(other: str):
    with Client.from_env() as client:
        client.cancel(other)


@job
def drained_own_stop():
    Client.from_env().cancel(current_job().id)
    current_job().progress(0.2)
    current_job().progress(0.4)


@job(timeout="100ms", retry=RetryPolicy(max_attempts=1))
def drained_slow():
    while True:
        time.sleep(0.01)


@job
def drained_ticked():
    ran.append("tick")


def test_what_is_due_runs_with_all_that_follows(drain):
    first = drained_chain.enqueue(2)
    drained_async.send(4)
    assert drain() == Drained(succeeded=4)
    assert drain() == Drained()
    assert [one for one in ran if isinstance(one, int)] == [2, 1, 0]
    stored = drain.client.get(first.id)
    assert (stored.state, stored.progress, stored.attempt) == ("succeeded", 0.5, 1)
    assert ["link" in line.message for line in drain.client.logs(first.id)] == [True]


def test_each_test_begins_with_empty_tables(drain):
    with drain.platform.database.autocommit() as connection:
        assert connection.execute(text("SELECT count(*) FROM __schema__.jobs")).scalar_one() == 0


def test_a_delayed_job_runs_when_the_clock_has_come_to_it(drain):
    drained_chain.with_options(delay="1h").enqueue(0)
    assert drain() == Drained()
    drain.advance("59m")
    assert drain() == Drained()
    drain.advance(timedelta(minutes=2))
    assert drain() == Drained(succeeded=1)


def test_the_clock_is_set_back_for_the_next_test(drain):
    drained_chain.with_options(delay="1h").enqueue(0)
    assert drain() == Drained()


def test_retries_run_at_their_time_and_the_errors_are_shown(drain):
    failing = drained_flaky.enqueue()
    assert drain() == Drained(retrying=1)
    rest = drain(until="1d")
    assert rest == Drained(retrying=1, failed=1)
    assert "ConnectionError: no line" in repr(rest)
    stored = drain.client.get(failing.id)
    assert (stored.state, len(stored.errors)) == ("failed", 3)


def test_an_exception_can_be_raised_in_the_test(drain):
    failing = drained_flaky.enqueue()
    with pytest.raises(ConnectionError, match="no line"):
        drain(raising=True)
    assert drain.client.get(failing.id).state == "retrying"


def test_snoozes_are_counted_and_come_due(drain):
    drained_snoozing.enqueue()
    assert drain(until="1d") == Drained(snoozed=2, succeeded=1)


def test_a_schedule_ticks_at_the_times_of_its_calendar(drain):
    drain.platform.schedules().create(
        schedule_request({"name": "nightly", "job": "drained_ticked", "cron": "0 3 * * *"})
    )
    assert drain(until="3d") == Drained(succeeded=3)
    assert len(ran) == 3


def test_a_schedule_that_cannot_tick_does_not_hold_the_clock(drain):
    schedules = drain.platform.schedules()
    for name in ("broken", "nightly"):
        schedules.create(schedule_request({"name": name, "job": "drained_ticked", "cron": "0 3 * * *"}))
    with drain.platform.database.transaction() as connection:
        connection.execute(text(f"UPDATE {SCHEMA}.schedules SET timezone = 'Nowhere' WHERE name = 'broken'"))
    assert drain(until="3d") == Drained(succeeded=3)


def test_a_limited_queue_is_drained_within_its_rate(drain):
    drain.client.limit_queue("default", rate="2/1h")
    for n in range(5):
        drained_async.enqueue(n)
    assert drain() == Drained(succeeded=2)
    assert drain(until="3h") == Drained(succeeded=3)


def test_a_unique_key_is_held_until_its_job_has_run(drain):
    first, again = drained_once.enqueue(1), drained_once.enqueue(1)
    assert first.id == again.id
    assert drain() == Drained(succeeded=1)
    assert drained_once.enqueue(1).id != first.id


def test_a_job_may_cancel_one_that_waits_and_itself(drain):
    other = drained_chain.with_options(priority=9).enqueue(5)
    drained_stopping.with_options(priority=0).enqueue(str(other.id))
    assert drain() == Drained(succeeded=1)
    assert drain.client.get(other.id).state == "cancelled"
    drained_own_stop.enqueue()
    assert drain() == Drained(cancelled=1)


def test_a_timeout_interrupts_a_job(drain):
    drained_slow.enqueue()
    assert drain() == Drained(failed=1)


def test_a_job_that_goes_on_for_ever_is_an_error(drain):
    drained_endless.enqueue()
    with pytest.raises(InvalidInput, match="enqueue itself without an end"):
        drain(most=5)


def test_a_job_whose_code_is_not_imported_is_an_error(drain):
    drain.client.enqueue("drained_of_others", {}, unchecked=True)
    with pytest.raises(UnknownJob, match="drained_of_others"):
        drain()


def test_arguments_that_a_worker_cannot_take_are_an_error(drain):
    drain.client.enqueue("drained_async", {"m": 1}, unchecked=True)
    with pytest.raises(InvalidArguments, match=r"kwargs\.m: no such argument"):
        drain()


def test_jobs_of_a_transaction_that_is_rolled_back_do_not_run(drain, server_urls):
    with psycopg.connect(server_urls.database_url) as connection:
        drain.client.enqueue("drained_async", {"n": 1}, connection=connection)
        connection.rollback()
        drain.client.enqueue("drained_async", {"n": 2}, connection=connection)
        connection.commit()
    assert drain() == Drained(succeeded=1)


def test_sql_enqueues_at_the_moved_clock(drain):
    drain.advance("1d")
    with drain.platform.database.transaction() as connection:
        connection.execute(text("SELECT __schema__.enqueue('drained_async', '{\"n\": 1}'::jsonb)"))
    assert drain() == Drained(succeeded=1)


def test_a_sync_job_runs_in_the_thread_of_the_test(drain):
    @job(name="drained_here")
    def here():
        ran.append(threading.get_ident())

    here.enqueue()
    assert drain() == Drained(succeeded=1)
    assert ran == [threading.get_ident()]


def test_callbacks_and_groups_of_dramatiq_follow(drain):
    broker = drained_chain.broker

    @dramatiq.actor(actor_name="drained_last", broker=broker)
    def last(*_):
        ran.append("last")

    @dramatiq.actor(actor_name="drained_part", broker=broker)
    def part(n):
        return n

    group = dramatiq.group([part.message(1), part.message(2)])
    group.add_completion_callback(last.message())
    group.run()
    (part.message(3) | last.message()).run()
    assert drain() == Drained(succeeded=5)
    assert ran == ["last", "last"]


def test_jobs_of_a_broker_of_another_class_are_drained_with_its_middleware(drain):
    class Witness(dramatiq.Middleware):
        def before_process_message(self, broker, message):
            ran.append((broker, message.args))

    stock = RedisBroker(url="redis://127.0.0.1:1", middleware=[Retries(max_retries=1), Witness()])

    @dramatiq.actor(actor_name="drained_stock", broker=stock)
    def failing(n):
        raise ValueError(n)

    failing.send(1)
    assert drain(until="1d") == Drained(retrying=1, failed=1)
    assert ran == [(stock, (1,))] * 2


def test_a_drain_inside_of_a_recording_has_servers_and_the_recording_goes_on_after_it(callboard_platform):
    with Enqueued() as enqueued:
        with Drain(callboard_platform) as drain:
            drained_chain.enqueue(0)
            assert drain() == Drained(succeeded=1)
            with Enqueued() as inner:
                drained_chain.enqueue(0)
            assert len(inner.all) == 1
        assert enqueued.all == []
        drained_chain.enqueue(2)
        enqueued.assert_enqueued(drained_chain, n=2)


def test_run_within_a_drain_enqueues_into_its_database(drain):
    run(drained_chain, 1)
    assert drain() == Drained(succeeded=1)


def test_a_drain_in_an_async_job_is_refused_and_does_not_wait_for_itself(drain):
    @job
    async def drained_within():
        drain()

    drained_within.enqueue()
    drained_async.enqueue(1)
    counts = drain()
    assert counts == Drained(succeeded=1, retrying=1)
    assert "would wait for that job itself" in counts.errors[0]


def test_it_leaves_logging_and_threads_as_they_were(drain):
    before = logging.Logger.handle, logging.getLogger().level
    drained_chain.enqueue(0)
    drain()
    assert (logging.Logger.handle, logging.getLogger().level) == before


def test_jobs_of_an_application_with_a_namespace_run(drain, monkeypatch):
    monkeypatch.setenv("CALLBOARD_APP", "billing")
    client_module.configured_app.cache_clear()
    try:
        drained_chain.enqueue(1)
        assert drain() == Drained(succeeded=2)
    finally:
        client_module.configured_app.cache_clear()
    assert ran == [1, 0]
