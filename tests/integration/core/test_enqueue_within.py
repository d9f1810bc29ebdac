"""Enqueue inside somebody's own transaction: by SQLAlchemy, by psycopg, from the platform's own services."""

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import create_engine, text

from callboard.jobs.client import Client
from callboard.jobs.errors import Conflict, InvalidArguments, InvalidInput, NotFound
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.request import job_request
from callboard.jobs.postgres import notices
from tests.integration.core.factories import PYTHON, count, publish, url_of, without_redis

NOTES = "CREATE TEMPORARY TABLE notes (job uuid)"
REPORT = {"name": "build_report", "kwargs": {"account_id": 7}}


@pytest.fixture
def client(platform):
    publish(platform)
    return Client.over(platform)


@pytest.fixture
def ear(platform):
    """Whether a commit tells of this queue; a listener may hear of commits before its time, so queues are new
    to each test.
    """
    with platform.database.autocommit() as connection:
        notices.listen(connection)
        heard = set()

        def told(queue, *, wait=True):
            heard.update(notices.heard(connection, 0.0))
            while wait and queue not in heard:
                more = notices.heard(connection, 5.0)
                assert more, "nothing was told"
                heard.update(more)
            return queue in heard

        told.forget = heard.clear
        yield told
        connection.invalidate()


@pytest.fixture
def queue():
    return f"q{new_id()}"


@pytest.fixture(params=["sqlalchemy", "sqlalchemy without our settings", "psycopg"])
def begin(request, platform):
    """A caller's own connection, in a transaction."""
    if request.param == "psycopg":
        with psycopg.connect(url_of(platform).replace("+psycopg", "")) as connection:
            yield connection
            connection.rollback()
    elif request.param == "sqlalchemy":
        with platform.database.engine.connect() as connection:
            yield connection
    else:
        engine = create_engine(url_of(platform))
        with engine.connect() as connection:
            yield connection
        engine.dispose()


def test_a_commit_makes_the_job_and_tells_the_feeder(client, platform, begin, ear, queue):
    job = client.enqueue("build_report", {"account_id": 7}, connection=begin, tags=["a"], queue=queue)
    assert (job.state, job.kwargs, job.source, job.tags) == ("queued", {"account_id": 7}, "python", ["a"])
    assert isinstance(job.id, UUID)
    with pytest.raises(NotFound):
        client.get(job.id)
    assert not ear(queue, wait=False)
    begin.commit()
    assert ear(queue)
    assert client.get(job.id) == job
    assert platform.transport.depth(queue) == 0


def test_a_rollback_leaves_nothing(client, platform, begin, ear, queue):
    for number in range(12):
        client.enqueue("build_report", {"account_id": number}, connection=begin, queue=queue)
    begin.rollback()
    assert count(platform) == 0
    client.enqueue("build_report", {"account_id": 7}, connection=begin, queue=f"{queue}.after")
    begin.commit()
    assert ear(f"{queue}.after")
    assert not ear(queue, wait=False)


def test_the_job_and_the_callers_own_rows_are_committed_together(client, platform, begin):
    execute = (
        begin.execute
        if isinstance(begin, psycopg.Connection)
        else lambda statement: begin.execute(text(statement))
    )
    execute(NOTES)
    job = client.enqueue("build_report", {"account_id": 7}, connection=begin)
    execute(f"INSERT INTO notes VALUES ('{job.id}')")
    begin.commit()
    found = execute("SELECT n.job, j.state FROM notes n JOIN callboard.jobs j ON j.id = n.job").fetchall()
    assert [tuple(row) for row in found] == [(job.id, "queued")]


def test_what_does_not_fit_is_refused_and_the_transaction_goes_on(client, platform, begin):
    with pytest.raises(InvalidArguments):
        client.enqueue("build_report", {}, connection=begin)
    with pytest.raises(InvalidInput):
        client.enqueue("build_report", {"account_id": 7, "month": "\0"}, connection=begin)
    job = client.enqueue("build_report", {"account_id": 7}, connection=begin)
    begin.commit()
    assert client.get(job.id).state == "queued"
    assert count(platform) == 1


def test_a_unique_key_holds_within_the_transaction(client, platform, begin):
    held = client.enqueue("build_report", {"account_id": 1}, unique_key="held")
    assert client.enqueue("build_report", {"account_id": 2}, unique_key="held", connection=begin) == held
    with pytest.raises(Conflict):
        client.enqueue(
            "build_report", {}, unique_key="held", on_conflict="reject", unchecked=True, connection=begin
        )
    own = client.enqueue("build_report", {"account_id": 3}, unique_key="own", connection=begin)
    assert client.enqueue("build_report", {"account_id": 4}, unique_key="own", connection=begin).id == own.id
    begin.commit()
    assert count(platform) == 2


def test_a_delayed_job_is_scheduled_and_tells_nobody(client, begin, ear, queue):
    client.enqueue("build_report", {"account_id": 7}, delay="1h", queue=queue)
    assert ear(queue), "the feeder is told of a new queue"
    ear.forget()
    job = client.enqueue("build_report", {"account_id": 7}, connection=begin, delay="1h", queue=queue)
    assert (job.state, job.run_at - job.enqueued_at) == ("scheduled", timedelta(hours=1))
    begin.commit()
    client.enqueue("build_report", {"account_id": 7}, connection=begin, queue=f"{queue}.last")
    begin.commit()
    assert ear(f"{queue}.last")
    assert not ear(queue, wait=False)


def test_it_needs_no_redis(platform, begin):
    publish(platform)
    with without_redis(platform) as lame:
        job = Client.over(lame).enqueue("build_report", {"account_id": 7}, connection=begin)
        begin.commit()
        assert lame.jobs.get(job.id).state == "queued"


def test_a_psycopg_connection_with_its_own_row_factory_and_autocommit_will_do(client, platform):
    url = url_of(platform).replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
        job = client.enqueue("build_report", {"account_id": 7, "month": "100% :sure"}, connection=connection)
        assert client.get(job.id).kwargs["month"] == "100% :sure"


def test_the_service_tells_of_every_queue(client, platform, ear, queue):
    names = [f"{queue}.{end}" for end in "aba"]
    with platform.database.transaction() as connection:
        requests = [job_request({**REPORT, "queue": name}) for name in names]
        written = platform.enqueue.within(connection, platform.enqueue.check_all(requests, PYTHON))
    assert [receipt.queue for receipt in written.receipts] == names
    assert all(ear(name) for name in names)
