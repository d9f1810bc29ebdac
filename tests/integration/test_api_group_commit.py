"""Group commit: what waits is bounded, and each request hears what became of its own job."""

import asyncio
from threading import Event

import pytest

from callboard.api.job_commits import JobCommits
from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.operate.job_filter import JobFilter
from tests.integration.api_client import publish, until

SOURCE = Source("http", "me")


class Gated:
    """An Enqueue that waits at a gate before it writes, and counts its writes."""

    def __init__(self, enqueue):
        self._enqueue = enqueue
        self.check = enqueue.check
        self.gate, self.arrived, self.writes = Event(), Event(), []

    def each(self, jobs, **options):
        self.arrived.set()
        assert self.gate.wait(20)
        self.writes.append(len(jobs))
        return self._enqueue.each(jobs, **options)


@pytest.fixture
def gated(platform):
    publish(platform)
    return Gated(platform.enqueue)


def report(account_id=1, name="build_report", **more):
    return JobRequest(name=name, kwargs={"account_id": account_id}, **more)


def commit(group, request, size=100):
    return asyncio.ensure_future(group.commit(request, SOURCE, size=size, allow=lambda _: None))


async def held(group, gated):
    """A first commit that is stuck at the gate, so that what follows must wait."""
    first = commit(group, report())
    await asyncio.to_thread(gated.arrived.wait, 20)
    return first


def test_what_came_during_a_write_is_written_together(platform, gated):
    async def scenario():
        group = JobCommits(gated, platform.jobs, at_once=1)
        first = await held(group, gated)
        others = [commit(group, report(n)) for n in range(50)]
        await asyncio.sleep(0)
        gated.gate.set()
        done = await asyncio.gather(first, *others)
        await asyncio.to_thread(group.close)
        return done

    done = asyncio.run(scenario())
    assert gated.writes == [1, 50]
    assert [one.job.kwargs["account_id"] for one in done] == [1, *range(50)]


def test_of_a_group_each_hears_its_own_error(platform, gated):
    async def scenario():
        group = JobCommits(gated, platform.jobs, at_once=1)
        first = await held(group, gated)
        requests = [report(1), report(name="nothing"), report("x"), report(4)]
        others = [commit(group, request) for request in requests]
        await asyncio.sleep(0)
        gated.gate.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    codes = [getattr(outcome, "code", "ok") for outcome in asyncio.run(scenario())]
    assert codes == ["ok", "ok", "UNKNOWN_JOB", "INVALID_ARGUMENTS", "ok"]


@pytest.mark.parametrize("bound", [{"most_waiting": 2}, {"most_bytes": 250}])
def test_what_does_not_fit_is_refused_and_the_rest_is_written(platform, gated, bound):
    async def scenario():
        group = JobCommits(gated, platform.jobs, at_once=1, **bound)
        first = await held(group, gated)
        others = [commit(group, report(n)) for n in range(3)]
        await asyncio.sleep(0)
        gated.gate.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    *accepted, refused = asyncio.run(scenario())
    assert all(one.job.state == "queued" for one in accepted)
    assert isinstance(refused, Unavailable)
    assert len(platform.jobs.page(JobFilter()).items) == 3


def test_a_request_that_alone_is_larger_than_what_may_wait_is_written(platform, gated):
    async def scenario():
        gated.gate.set()
        return await commit(JobCommits(gated, platform.jobs, at_once=1, most_bytes=10), report(), size=1000)

    assert asyncio.run(scenario()).job.state == "queued"


def test_a_job_that_was_written_but_cannot_be_read_says_so(platform, gated, monkeypatch):
    def away(_):
        raise Unavailable("Postgres does not answer")

    async def scenario():
        gated.gate.set()
        monkeypatch.setattr(platform.jobs, "get_many", away)
        return await asyncio.gather(
            commit(JobCommits(gated, platform.jobs, at_once=1), report(delay="1h")), return_exceptions=True
        )

    (outcome,) = asyncio.run(scenario())
    assert isinstance(outcome, Unavailable)
    (job,) = platform.jobs.page(JobFilter()).items
    assert f"job {job.id} is accepted" in outcome.message


def test_while_the_database_is_away_it_is_asked_once_for_a_group(platform, gated):
    asked = []

    def away(*_):
        asked.append(1)
        raise Unavailable("Postgres does not answer")

    async def scenario():
        group = JobCommits(gated, platform.jobs, at_once=1)
        first = await held(group, gated)
        gated.check = away
        others = [commit(group, report(n)) for n in range(20)]
        await asyncio.sleep(0)
        gated.gate.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    _, *refused = asyncio.run(scenario())
    assert {type(one) for one in refused} == {Unavailable}
    assert len(asked) == 1


def test_closing_writes_what_waits_and_takes_no_more(platform, gated):
    async def scenario():
        group = JobCommits(gated, platform.jobs, at_once=1)
        first = await held(group, gated)
        second = commit(group, report(2))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(group.close))
        await asyncio.to_thread(until, lambda: group._group._closing)
        late = commit(group, report(3))
        await asyncio.sleep(0)
        gated.gate.set()
        await closing
        return await asyncio.gather(first, second, late, return_exceptions=True)

    first, second, late = asyncio.run(scenario())
    assert (first.job.state, second.job.state) == ("queued", "queued")
    assert isinstance(late, Unavailable)


def test_a_caller_that_left_does_not_trouble_the_others(platform, gated):
    async def scenario():
        group = JobCommits(gated, platform.jobs, at_once=1)
        first = await held(group, gated)
        gone, stays = commit(group, report(1)), commit(group, report(2))
        await asyncio.sleep(0)
        gone.cancel()
        gated.gate.set()
        await first
        return await stays

    assert asyncio.run(scenario()).job.kwargs == {"account_id": 2}


def test_an_open_transaction_on_a_unique_key_holds_up_no_job_without_one(platform):
    publish(platform)

    async def scenario(connection):
        group = JobCommits(platform.enqueue, platform.jobs)
        keyed = commit(group, report(unique_key="held"))
        plain = await asyncio.gather(*(commit(group, report(n)) for n in range(5)))
        with pytest.raises(Busy, match="another transaction, still open"):
            await keyed
        connection.rollback()
        again = await commit(group, report(unique_key="held"))
        await asyncio.to_thread(group.close)
        return plain, again

    with platform.database.engine.connect() as connection:
        platform.enqueue.within(connection, [report(unique_key="held")], SOURCE)
        plain, again = asyncio.run(scenario(connection))
    assert len({one.job.id for one in plain}) == 5
    assert not again.existed
