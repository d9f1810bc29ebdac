"""AsyncClient: the methods of Client as coroutines, which neither block the loop nor disturb each other."""

import asyncio
import threading

import psycopg
import pytest
import uvloop

from callboard.jobs.async_client import AsyncClient
from callboard.jobs.client import Client
from callboard.jobs.errors import Conflict, InvalidArguments, InvalidInput, NotFound, UnknownJob, WaitTimeout
from callboard.jobs.loop_calls import ClientClosed, WrongEventLoop
from callboard.jobs.model.basics.ids import new_id
from tests.integration.core.factories import count, publish, run_sql

PATIENCE = 60.0
END = "UPDATE callboard.jobs SET state = 'cancelled', finished_at = now()"


@pytest.fixture
def own(platform, database_url, redis_url):
    """Makes an AsyncClient; each test uses it in its own loop."""
    publish(platform)
    return lambda: AsyncClient(database_url=database_url, redis_url=redis_url)


async def until(holds):
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_every_method_does_what_that_of_client_does(own, platform, run):
    async def scenario():
        async with own() as client:
            job = await client.enqueue("build_report", {"account_id": 1}, tags=["a"])
            assert await client.get(str(job.id)) == job
            later = await client.enqueue("build_report", {"account_id": 2}, delay="1h", unique_key="k")
            again = await client.enqueue("build_report", {"account_id": 3}, unique_key="k")
            assert (later.state, again.id) == ("scheduled", later.id)
            ids = await client.enqueue_many("build_report", [{"account_id": n} for n in range(3)])
            assert len(ids) == 3
            assert await client.enqueue_many("build_report", []) == []
            assert (await client.cancel(job.id)).state == "cancelled"
            assert (await client.wait(job.id, timeout=60)).state == "cancelled"
            assert (await client.retry(job.id)).state == "queued"
            assert (await client.bulk("cancel", name="build_report", dry_run=True)).matched == 5
            assert (await client.bulk("cancel", name="build_report")).changed == 5
            assert await client.logs(job.id) == []
            assert (await client.why(job.id)).state == "cancelled"
            await client.limit_queue("reports", concurrency=3, key_rate="5/1m")
            await client.delete(job.id)
            with pytest.raises(NotFound):
                await client.get(job.id)

    run(scenario())
    assert count(platform) == 4


def test_bad_input_is_refused_as_by_client(own, platform):
    async def scenario():
        async with own() as client:
            for error, call in (
                (InvalidArguments, client.enqueue("build_report", {"account_id": "x"})),
                (UnknownJob, client.enqueue("biuld_report", {"account_id": 1})),
                (InvalidInput, client.enqueue("build_report", {"account_id": 1}, priority=12)),
                (InvalidArguments, client.enqueue_many("build_report", [{"account_id": 1}, {}])),
                (InvalidInput, client.get("7")),
                (InvalidInput, client.get(7)),
                (InvalidInput, client.get(None)),
                (InvalidInput, client.wait(new_id(), timeout=float("nan"))),
                (InvalidInput, client.enqueue("build_report", {"account_id": 1}, connection=object())),
                (NotFound, client.wait(new_id())),
            ):
                with pytest.raises(error):
                    await call
            await client.enqueue("build_report", {"account_id": 1}, unique_key="k")
            with pytest.raises(Conflict):
                await client.enqueue("build_report", {"account_id": 1}, unique_key="k", on_conflict="reject")

    asyncio.run(scenario())
    assert count(platform) == 1


def test_a_client_takes_a_job_object_in_place_of_its_name(own):
    class Named:
        actor_name = "build_report"

    async def scenario():
        async with own() as client:
            await client.enqueue_many(Named(), [{"account_id": 1}])
            return (await client.enqueue(Named(), {"account_id": 1})).name

    assert asyncio.run(scenario()) == "build_report"


def names():
    return [one.name for one in threading.enumerate()]


def test_a_hundred_waits_share_one_subscription_and_take_no_threads(own, platform):
    async def scenario():
        async with own() as client:
            jobs = [await client.enqueue("build_report", {"account_id": n}) for n in range(100)]
            before, others = threading.active_count(), names().count("callboard-waiting")
            waits = [asyncio.ensure_future(client.wait(job.id, "30s")) for job in jobs]
            await asyncio.sleep(0.2)
            assert threading.active_count() - before <= 5
            assert names().count("callboard-waiting") - others <= 1
            waits[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits[0]
            await asyncio.to_thread(run_sql, platform, END)
            return [job.state for job in await asyncio.gather(*waits[1:])]

    assert asyncio.run(scenario()) == ["cancelled"] * 99


def test_waits_go_on_when_a_program_cancels_the_task_that_reads_for_them(own, platform):
    async def scenario():
        async with own() as client:
            job = await client.enqueue("build_report", {"account_id": 1})
            waits = asyncio.ensure_future(client.wait(job.id))
            await until(lambda: client._waits is not None and client._waits._reader is not None)
            client._waits._reader.cancel()
            await asyncio.to_thread(run_sql, platform, END)
            async with asyncio.timeout(PATIENCE):
                return (await waits).state

    assert asyncio.run(scenario()) == "cancelled"


def test_a_wait_that_takes_too_long_says_where_the_job_stands(own):
    async def scenario():
        async with own() as client:
            job = await client.enqueue("build_report", {"account_id": 1}, delay="1h")
            for timeout in (0, -1, 0.05):
                with pytest.raises(WaitTimeout, match="is still scheduled"):
                    await client.wait(job.id, timeout)

    asyncio.run(scenario())


def test_the_loop_goes_on_while_calls_wait_for_a_locked_row_and_a_cancelled_one_hurts_no_other(
    own, platform, database_url
):
    async def scenario():
        async with own() as client:
            job = await client.enqueue("build_report", {"account_id": 1})
            with psycopg.connect(database_url) as holder:
                holder.execute("SELECT FROM callboard.jobs FOR UPDATE")
                verbs = [asyncio.ensure_future(client.cancel(job.id)) for _ in range(6)]
                # Verbs that wait have threads of their own, so reads go on.
                reads = await asyncio.gather(*(client.get(job.id) for _ in range(20)))
                assert {one.state for one in reads} == {"queued"}
                assert not any(verb.done() for verb in verbs)
                verbs[0].cancel()
                verbs[5].cancel()
                holder.rollback()
            done = await asyncio.gather(*verbs, return_exceptions=True)
            assert [type(one).__name__ for one in done] == ["CancelledError", *["Job"] * 4, "CancelledError"]
            # The connections of the cancelled calls work.
            return {one.state for one in await asyncio.gather(*(client.get(job.id) for _ in range(20)))}

    assert asyncio.run(scenario()) == {"cancelled"}


def test_a_cancelled_enqueue_disturbs_no_other_and_is_committed_or_not_there(own, platform):
    async def scenario():
        async with own() as client:
            await client.enqueue("build_report", {"account_id": 0})
            tasks = [
                asyncio.ensure_future(client.enqueue("build_report", {"account_id": n})) for n in range(200)
            ]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

    done = asyncio.run(scenario())
    assert {type(one).__name__ for one in done[1::2]} == {"Job"}
    assert {type(one).__name__ for one in done[::2]} == {"CancelledError"}
    assert 101 <= count(platform) <= 201


def test_large_arguments_and_unknown_jobs_are_checked_beside_the_loop(own, platform):
    async def scenario():
        async with own() as client:
            text = "x" * 1_000_000
            assert (await client.enqueue("build_report", {"account_id": 1, "month": text})).kwargs[
                "month"
            ] == text

    asyncio.run(scenario())


def test_a_client_of_another_loop_is_refused_and_each_loop_has_its_own(own, platform):
    async def enqueues(client):
        await client.enqueue("build_report", {"account_id": 1})

    async def with_its_own():
        async with own() as client:
            for _ in range(10):
                await enqueues(client)

    client = own()
    asyncio.run(enqueues(client))
    with pytest.raises(WrongEventLoop, match="which has ended; make one AsyncClient in each event loop"):
        asyncio.run(enqueues(client))
    client._close_all()
    threads = [threading.Thread(target=asyncio.run, args=(with_its_own(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert count(platform) == 41


def test_closing_answers_each_call_that_has_begun_and_refuses_later_ones(own, platform):
    async def scenario():
        client = own()
        job = await client.enqueue("build_report", {"account_id": 1})
        waits = [asyncio.ensure_future(client.wait(job.id)) for _ in range(3)]
        await until(lambda: client._waits is not None and job.id in client._waits._futures)
        writes = [asyncio.ensure_future(client.enqueue("build_report", {"account_id": n})) for n in range(50)]
        reads = [asyncio.ensure_future(client.get(job.id)) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.gather(client.close(), client.close())
        with pytest.raises(ClientClosed, match="make another one"):
            await client.get(job.id)
        await client.close()
        return await asyncio.gather(*waits, *writes, *reads, return_exceptions=True)

    done = asyncio.run(scenario())
    assert [type(one).__name__ for one in done] == ["ClientClosed"] * 3 + ["Job"] * 100
    assert count(platform) == 51


def test_a_client_by_urls_works_and_a_bad_url_is_named(platform, database_url, redis_url):
    publish(platform)
    with Client(database_url=database_url, redis_url=redis_url) as client:
        assert client.enqueue("build_report", {"account_id": 1}).state == "queued"
    for kind in (Client, AsyncClient):
        for bad, name in (
            ({"database_url": "mysql://host/name"}, "database_url"),
            ({"database_url": None}, "database_url"),
            ({"redis_url": "http://host"}, "redis_url"),
            ({"schema": "Bad Name"}, "schema"),
            ({"schema": None}, "schema"),
        ):
            with pytest.raises(InvalidInput, match=name) as raised:
                kind(**{"database_url": database_url, "redis_url": redis_url, **bad})
            assert name in raised.value.fields
