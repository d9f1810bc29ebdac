"""Tables that change under a running process: prepared statements are prepared anew, and nobody notices."""

from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import text

from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.postgres.leadership import Leadership
from callboard.jobs.postgres.repeating import forget_prepared
from tests.integration.api_client import api_in_process
from tests.integration.core.factories import at_once, claimed, execution

#: A change, and how to undo it. Each changes the result of a statement that was prepared before.
CHANGES = {
    "type": (
        "ALTER TABLE callboard.jobs ALTER COLUMN progress_note TYPE varchar(4000)",
        "ALTER TABLE callboard.jobs ALTER COLUMN progress_note TYPE text",
    ),
    "column": (
        "ALTER TABLE callboard.jobs ADD COLUMN extra int",
        "ALTER TABLE callboard.jobs DROP COLUMN extra",
    ),
    "key": (
        "ALTER TABLE callboard.queues ALTER COLUMN name TYPE varchar(200)",
        "ALTER TABLE callboard.queues ALTER COLUMN name TYPE text",
    ),
    "index": ("REINDEX TABLE callboard.jobs", "SELECT 1"),
}
#: More than the driver waits before it prepares a statement.
OFTEN = 8


@contextmanager
def changed(platform, change):
    """Change a table and undo it, by a connection of a DBA."""
    there, back = CHANGES[change]
    url = platform.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as dba:
        dba.execute(there)
        try:
            yield
        finally:
            dba.execute(back)


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        yield api


@pytest.mark.parametrize("change", CHANGES)
def test_the_api_answers_as_before(api, change):
    job = api.operator.enqueue(delay="1h")

    def requests():
        yield api.operator.post("/v1/jobs", {"name": "build_report", "kwargs": {"account_id": 7}})
        keyed = {"name": "build_report", "kwargs": {"account_id": 7}, "unique_key": "k"}
        yield api.operator.post("/v1/jobs", keyed)
        yield api.operator.post("/v1/jobs/batch", {"jobs": [keyed, {**keyed, "unique_key": "l"}]})
        for path in (f"/v1/jobs/{job['id']}", "/v1/jobs", "/v1/queues", "/v1/queues/reports", "/readyz"):
            yield api.viewer.get(path)
        yield api.operator.post("/v1/queues/reports/pause")
        yield api.operator.post("/v1/queues/reports/resume")

    for _ in range(OFTEN):
        assert {answer.status_code for answer in requests()} <= {200, 201}
    with changed(api.platform, change):
        for _ in range(2):
            assert {answer.status_code for answer in requests()} <= {200, 201}
    assert {answer.status_code for answer in requests()} <= {200, 201}


@pytest.mark.parametrize("change", CHANGES)
def test_a_worker_claims_and_finishes_as_before(platform, change):
    with execution(platform) as worker:

        def walk():
            jobs = claimed(platform, worker, 2)
            verbs = (Verb.COMPLETE, Verb.RETRY)
            ends = [
                Finish(job.id, job.epoch, job.claim_id, verb) for job, verb in zip(jobs, verbs, strict=True)
            ]
            assert worker.finish(ends).keys() == {job.id for job in jobs}
            worker.served_queues([])

        for _ in range(OFTEN):
            walk()
        with changed(platform, change):
            walk()
        walk()


def test_the_leader_keeps_its_lock(platform):
    leadership = Leadership(platform.database)
    assert leadership.take()
    ask = text("SELECT * FROM callboard.jobs")
    for _ in range(OFTEN):
        leadership.ask(lambda connection: connection.execute(ask).all())
    with changed(platform, "column"):
        leadership.ask(lambda connection: connection.execute(ask).all())
        leadership.verify()
        assert not Leadership(platform.database).take()
    leadership.release()


@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_statements_that_somebody_dropped_are_prepared_anew(platform, command):
    kept = platform.database.kept("claim")
    ask = text("SELECT count(*) FROM callboard.jobs")
    assert kept.run(lambda to: to.execute(ask).scalar_one()) == 0
    kept._connection._connection.pgconn.exec_(command.encode())
    assert kept.run(lambda to: to.execute(ask).scalar_one()) == 0
    kept.close()


def test_a_transaction_is_repeated_on_a_fresh_connection(platform):
    read = text("SELECT * FROM callboard.jobs")

    def work(connection):
        connection.execute(text("SELECT 1"))
        return connection.execute(read).all()

    at_once(4, lambda _: [platform.database.retrying(work) for _ in range(OFTEN)])
    with changed(platform, "column"):
        assert platform.database.retrying(work) == []


def test_an_outcome_waits_while_the_tables_do_not_fit(platform):
    """A column that is gone is not the outcome's fault: the flusher must keep the outcome."""
    with execution(platform) as worker:
        [job] = claimed(platform, worker)
        end = Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE)
        with platform.database.transaction() as connection:
            connection.execute(text("ALTER TABLE callboard.jobs RENAME COLUMN finished_at TO ended_at"))
        try:
            with pytest.raises(Unavailable, match="tables changed"):
                worker.finish([end])
        finally:
            with platform.database.transaction() as connection:
                connection.execute(text("ALTER TABLE callboard.jobs RENAME COLUMN ended_at TO finished_at"))
        assert worker.finish([end])[job.id].state is JobState.SUCCEEDED


def test_a_single_statement_is_repeated_after_a_serialization_failure(platform):
    make = """
      CREATE SEQUENCE public.tries;
      CREATE FUNCTION public.fail_twice(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
      BEGIN IF n < 3 THEN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END IF; RETURN n; END $$
    """
    with platform.database.transaction() as connection:
        connection.exec_driver_sql(make)
    try:
        with platform.database.autocommit() as connection:
            tried = text("SELECT public.fail_twice(nextval('public.tries'))")
            assert connection.execute(tried).scalar_one() == 3
    finally:
        with platform.database.transaction() as connection:
            connection.exec_driver_sql("DROP FUNCTION public.fail_twice; DROP SEQUENCE public.tries")


def test_a_cancelled_statement_is_busy_and_the_connection_goes_on(platform):
    kept = platform.database.kept("claim")
    kept.run(lambda to: to.execute(text("SET statement_timeout = '20ms'")))
    backend = kept._connection._connection.info.backend_pid
    with pytest.raises(Busy, match="statement_timeout"):
        kept.run(lambda to: to.execute(text("SELECT pg_sleep(60)")))
    assert kept._connection._connection.info.backend_pid == backend
    kept.close()


def test_the_driver_forgets_its_statements_each_time(platform):
    """The driver reads the answer to a statement that it has not counted before."""
    kept = platform.database.kept("claim")
    ask = text("SELECT count(*) FROM callboard.jobs")
    kept.run(lambda to: to.execute(text("SELECT 1")))
    connection = kept._connection._connection
    for _ in range(3):
        # the second time there is nothing to forget
        forget_prepared(connection)
        forget_prepared(connection)
        for _ in range(2):
            connection.pgconn.exec_(b"DEALLOCATE ALL")
            assert kept.run(lambda to: to.execute(ask).scalar_one()) == 0
        assert kept._connection._connection is connection
    kept.close()
