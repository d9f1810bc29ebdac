"""A job's request id in the database: written in every kind of batch, kept, and unknown to an older release."""

import asyncio

import pytest
from sqlalchemy import text

from callboard.jobs.model.job import Source
from callboard.jobs.model.new_job import AlikeJobs
from callboard.jobs.model.request import JobRequest
from tests.integration.core.factories import count, execution, own_database, publish, run_sql

#: How version 0017 writes a job and reads a claimed one.
OLD_INSERT = """INSERT INTO callboard.jobs AS j (
  id, name, queue, state, args, kwargs, priority, max_attempts, run_at, enqueued_at, expires_at, tags,
  timeout, source, source_id, hard_timeout, options, limit_key)
SELECT gen_random_uuid(), 'build_report', 'reports', 'queued', '[]', '{}', 5, 10, now(), now(), NULL, '{}',
  NULL, 'python', NULL, NULL, NULL, NULL"""


@pytest.fixture
def platform(platform):
    publish(platform)
    return platform


def report(account_id=1, **more):
    return JobRequest(name="build_report", kwargs={"account_id": account_id}, **more)


def source(request_id):
    return Source("http", "key", request_id)


def claim(platform, request_id):
    ids = platform.enqueue.accept(platform.enqueue.check(report(), source(request_id))).ids
    with execution(platform) as by:
        [job] = by.claim([(ids[0], 0)])
    return job


def stored(platform, ids):
    return [platform.jobs.get(one).request_id for one in ids]


@pytest.mark.parametrize("more", [{}, {"tags": ["x"]}], ids=["alike", "mixed"])
def test_requests_that_come_together_keep_their_own_ids(platform, more):
    async def scenario():
        batches = [
            platform.enqueue.check(report(n, **(more if n % 2 else {})), source(f"r-{n}" if n else None))
            for n in range(20)
        ]
        written = await asyncio.gather(*(platform.enqueue.accept_async(one, size=1) for one in batches))
        return [one.ids[0] for one in written]

    ids = asyncio.run(scenario())
    assert stored(platform, ids) == [None, *(f"r-{n}" for n in range(1, 20))]


def test_jobs_that_differ_in_their_request_alone_are_alike(platform):
    one = platform.enqueue.check(report(), source("r-1"))
    other = platform.enqueue.check(report(), source("r-2"))
    assert isinstance(one, AlikeJobs)
    assert isinstance(other, AlikeJobs)
    assert one.settings == other.settings


@pytest.mark.parametrize("request_id", [None, "r-1"])
def test_a_batch_of_several_inserts_keeps_the_id(platform, request_id):
    batch = platform.enqueue.check_arguments(
        report(), [{"account_id": n} for n in range(2_001)], source(request_id)
    )
    ids = platform.enqueue.accept(batch).ids
    assert stored(platform, [ids[0], ids[1_999], ids[2_000]]) == [request_id] * 3


def test_a_job_that_is_replaced_keeps_the_id_of_its_enqueue_and_so_does_a_rerun(platform):
    request = report(unique_key="k", on_conflict="replace")
    first = platform.enqueue.accept(platform.enqueue.check(request, source("r-1"))).ids[0]
    second = platform.enqueue.accept(platform.enqueue.check(request, source("r-2"))).ids[0]
    assert second == first
    platform.control.cancel(first)
    platform.control.rerun(first)
    assert stored(platform, [first]) == ["r-1"]


def test_a_claim_knows_the_id_and_its_log_fields_have_it(platform):
    first, second = (claim(platform, request_id) for request_id in ("r-1", None))
    assert (first.request_id, first.log_fields["request_id"]) == ("r-1", "r-1")
    assert (second.request_id, "request_id" in second.log_fields) == (None, False)


def test_what_is_enqueued_in_sql_has_none(platform):
    call = text("SELECT callboard.enqueue('build_report', jsonb_build_object('account_id', 1))")
    with platform.database.transaction() as connection:
        job = connection.execute(call).scalar_one()
    assert stored(platform, [job]) == [None]


def test_the_release_before_works_on_the_new_table_and_goes_back_with_its_jobs(database_url):
    with own_database(database_url, "request_ids") as platform:
        platform.migrations.upgrade()
        run_sql(platform, OLD_INSERT)
        publish(platform)
        ids = platform.enqueue.accept(platform.enqueue.check(report(), source("r-1"))).ids
        assert stored(platform, ids) == ["r-1"]
        assert platform.migrations.downgrade("0017").current == "0017"
        run_sql(platform, OLD_INSERT)
        assert platform.migrations.upgrade().up_to_date
        assert stored(platform, ids) == [None]
        assert count(platform) == 3


def test_the_column_is_added_without_a_rewrite_of_the_table(database_url):
    with own_database(database_url, "request_ids") as platform:
        platform.migrations.upgrade()
        platform.migrations.downgrade("0017")
        run_sql(platform, OLD_INSERT)
        node = text("SELECT pg_relation_filenode('callboard.jobs')")
        with platform.database.autocommit() as connection:
            before = connection.execute(node).scalar_one()
            platform.migrations.upgrade()
            assert connection.execute(node).scalar_one() == before
