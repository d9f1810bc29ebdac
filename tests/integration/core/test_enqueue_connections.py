"""The connections by which jobs are enqueued: kept, replaced when they die, given back, and never shared with
a copy.
"""

import os
from contextlib import closing

import pytest
from sqlalchemy import text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.client import Client
from callboard.jobs.errors import NotShown, Unavailable
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.listing import Jobs
from callboard.jobs.platform import Platform
from callboard.jobs.postgres import statements
from callboard.jobs.postgres.sessions import session_settings
from tests.integration.core.factories import at_once, count, publish, run_sql, until

OURS = "callboard test of connections"
KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"


@pytest.fixture
def client(platform):
    publish(platform)
    return Client.over(platform)


@pytest.fixture
def own(platform, database_url, redis_url):
    """A platform whose connections can be told from all others."""
    publish(platform)
    with closing(Platform(sqlalchemy_url(database_url), redis_url, application=OURS)) as made:
        yield made


def test_a_copy_of_the_process_enqueues_by_a_connection_of_its_own(client, platform):
    client.enqueue("build_report", {"account_id": 1})
    copy = os.fork()
    if copy == 0:
        try:
            client.enqueue("build_report", {"account_id": 2})
        except BaseException:  # noqa: BLE001 - told by the code
            os._exit(1)
        os._exit(0)
    jobs = [client.enqueue("build_report", {"account_id": 3}) for _ in range(50)]
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    assert count(platform) == 2 + len(jobs)


def test_an_outage_after_the_commit_does_not_hide_the_job(client, platform, monkeypatch):
    def away(*_):
        raise Unavailable("Postgres does not answer")

    monkeypatch.setattr(Jobs, "get_many", away)
    told = client.enqueue("build_report", {"account_id": 1}, unique_key="r-1", delay="1h")
    (job,) = platform.jobs.page(JobFilter()).items
    assert (told.id, told.state, told.run_at, told.kwargs) == (job.id, job.state, job.run_at, job.kwargs)
    with pytest.raises(NotShown, match=f"job {job.id} is enqueued, but cannot be shown"):
        client.enqueue("build_report", {"account_id": 1}, unique_key="r-1")


def test_a_client_that_is_closed_leaves_no_connection(platform, database_url, redis_url):
    publish(platform)
    of_its_own = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'callboard leaver'"
    leaver = Platform(sqlalchemy_url(database_url), redis_url, application="callboard leaver")
    Client.over(leaver).enqueue("build_report", {"account_id": 1})
    with platform.database.autocommit() as connection:
        assert connection.execute(text(of_its_own)).scalar_one() == 1
        leaver.close()
        until(lambda: connection.execute(text(of_its_own)).scalar_one() == 0)


def test_after_an_outage_no_kept_connection_fails_later(platform, own):
    client = Client.over(own)
    at_once(8, lambda n: [client.enqueue("build_report", {"account_id": n}) for _ in range(20)])
    with platform.database.autocommit() as connection:
        assert len(connection.execute(text(KILL), {"name": OURS}).all()) >= 2
    with pytest.raises(Unavailable):
        client.enqueue("build_report", {"account_id": 1})
    before = count(platform)
    at_once(8, lambda n: [client.enqueue("build_report", {"account_id": n}) for _ in range(20)])
    assert count(platform) == before + 160


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_kept_connection_that_breaks_is_an_outage_and_logs_nothing(platform, own, in_transaction, caplog):
    kept = own.database.kept("enqueue")
    pid = kept.run(lambda statements: statements.execute(text("SELECT pg_backend_pid()")).scalar_one())

    def break_off(statements):
        run_sql(platform, "SELECT pg_terminate_backend(:pid)", pid=pid)
        statements.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        (kept.transaction if in_transaction else kept.run)(break_off)
    assert kept.run(lambda statements: statements.execute(text("SELECT 7")).scalar_one()) == 7
    kept.close()
    assert caplog.messages == []


def test_a_kept_connection_that_breaks_while_it_opens_is_an_outage(platform, own, monkeypatch):
    kept = own.database.kept("enqueue")

    def break_off(connection, settings):
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        run_sql(platform, "SELECT pg_terminate_backend(:pid)", pid=pid)
        session_settings.change(connection, settings)

    with monkeypatch.context() as patched:
        patched.setattr(statements, "change", break_off)
        with pytest.raises(Unavailable, match="terminating connection"):
            kept.run(lambda connection: connection.execute(text("SELECT 1")))
    assert kept.run(lambda connection: connection.execute(text("SELECT 7")).scalar_one()) == 7
    kept.close()


def test_a_kept_connection_runs_one_statement_unless_it_is_in_a_transaction(own):
    kept = own.database.kept("enqueue")

    def two(statements):
        statements.execute(text("SELECT 1"))
        return statements.execute(text("SELECT 2")).scalar_one()

    with pytest.raises(RuntimeError, match="only one statement"):
        kept.run(two)
    assert kept.transaction(two) == 2
    kept.close()


def test_an_argument_that_cannot_be_stored_costs_no_connection(platform, own):
    client = Client.over(own)
    pids = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE application_name = :name"

    def connections():
        with platform.database.autocommit() as connection:
            return connection.execute(text(pids), {"name": OURS}).scalar_one()

    client.enqueue("build_report", {"account_id": 1})
    before = connections()
    for _ in range(3):
        with pytest.raises(Exception, match="NUL"):
            client.enqueue(
                "build_report", {"account_id": 1}, tags=["a"], unchecked=True, queue="q", args=["\x00"]
            )
    client.enqueue("build_report", {"account_id": 1})
    assert connections() == before
