"""Enqueues of many callers in one transaction: each gets its own answer, and a batch is one transaction."""

import asyncio
from contextlib import closing

import pytest
from sqlalchemy import event, text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.errors import Busy, Duplicate, Unavailable
from callboard.jobs.model.job import Source
from callboard.jobs.model.new_job import batch_of
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.request import JobRequest
from callboard.jobs.platform import Platform
from tests.integration.core.factories import at_once, count, enqueue_one, publish, run_sql

SOURCE = Source("http", "me")


def report(account_id=1, **more):
    return JobRequest(name="build_report", kwargs={"account_id": account_id}, **more)


def accept(platform, request):
    batch = platform.enqueue.check(request, SOURCE)
    return asyncio.ensure_future(platform.enqueue.accept_async(batch, size=100))


@pytest.fixture
def platform(platform):
    publish(platform)
    return platform


def test_of_many_that_come_together_one_that_cannot_be_written_fails_alone(platform):
    async def scenario():
        batches = [platform.enqueue.check(report(n), SOURCE) for n in range(20)]
        # Nothing but the database knows that its id is taken.
        [job] = platform.enqueue.check(report(), SOURCE).jobs
        batches.insert(7, batch_of([job._replace(id=taken)]))
        jobs = [platform.enqueue.accept_async(batch, size=1) for batch in batches]
        return await asyncio.gather(*jobs, return_exceptions=True)

    taken = enqueue_one(platform, report()).id
    results = asyncio.run(scenario())
    assert isinstance(results.pop(7), Duplicate)
    assert len({one.ids[0] for one in results}) == 20
    assert count(platform) == 21


def test_while_the_database_is_away_it_is_asked_once_for_a_group(platform, monkeypatch):
    asked = []

    def away(*_args, **_options):
        asked.append(1)
        raise Unavailable("Postgres does not answer")

    async def scenario():
        batch = platform.enqueue.check(report(), SOURCE)
        monkeypatch.setattr(platform.enqueue, "_commit", away)
        jobs = [platform.enqueue.accept_async(batch, size=1) for _ in range(30)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    results = asyncio.run(scenario())
    assert {type(one) for one in results} == {Unavailable}
    assert len(asked) < 10


def test_an_open_transaction_on_a_unique_key_delays_no_job_without_one(platform):
    async def scenario(connection):
        keyed = accept(platform, report(unique_key="held"))
        plain = await asyncio.gather(*(accept(platform, report(n)) for n in range(5)))
        assert not keyed.done()
        with pytest.raises(Busy, match="another transaction, still open"):
            await keyed
        connection.rollback()
        again = await accept(platform, report(unique_key="held"))
        return plain, again

    with platform.database.engine.connect() as connection:
        batch = platform.enqueue.check(report(unique_key="held"), SOURCE)
        platform.enqueue.within(connection, batch)
        plain, again = asyncio.run(scenario(connection))
    assert len({one.ids[0] for one in plain}) == 5
    assert not again.receipts[0].existed


def test_when_the_notice_fails_nothing_is_committed_and_nobody_is_told_that_it_was(
    platform, database_url, redis_url
):
    """A limited queue's jobs are announced by NOTIFY.

    It is in the transaction of the jobs, whatever that is written through.
    """
    platform.queues.limit("reports", Limits(concurrency=1))
    role, name = "callboard_may_not_notify", platform.database.schema
    for statement in (
        f"CREATE ROLE {role}",
        f"GRANT USAGE ON SCHEMA {name} TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {role}",
        "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC",
    ):
        run_sql(platform, statement)
    try:
        with closing(Platform(sqlalchemy_url(database_url), redis_url)) as poor:

            def become_poor(raw, _record):
                raw.execute(f"SET ROLE {role}")
                raw.commit()

            event.listen(poor.database.engine, "connect", become_poor)

            def refused(number):
                with pytest.raises(Exception, match="permission denied for function pg_notify"):
                    enqueue_one(poor, report(number))
                return number

            assert at_once(8, refused) == list(range(8))
            requests = poor.enqueue.check_all([report(1), report(2)], SOURCE)
            with pytest.raises(Exception, match="permission denied for function pg_notify"):
                poor.enqueue.accept(requests)
        assert count(platform) == 0
    finally:
        run_sql(platform, "GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC")
        run_sql(platform, f"DROP OWNED BY {role}")
        run_sql(platform, f"DROP ROLE {role}")


def test_a_limited_queue_is_told_of_once_for_a_group(platform):
    platform.queues.limit("reports", Limits(concurrency=1))
    with platform.database.autocommit() as listener:
        listener.execute(text(f"LISTEN {platform.database.schema}_queued"))
        driver = listener.connection.driver_connection
        platform.enqueue.accept(platform.enqueue.check_all([report(n) for n in range(30)], SOURCE))
        heard = [notice.payload for notice in driver.notifies(timeout=60, stop_after=1)]
        assert heard == ["reports"]
        enqueue_one(platform, report(delay="1h"))
        assert list(driver.notifies(timeout=0.3, stop_after=1)) == []
