"""Tables of another version than the program needs: it waits, says why, and goes on when they fit again."""

from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from structlog.testing import capture_logs

from callboard import Client
from callboard.jobs.errors import SchemaMismatch, Unavailable
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate.health import HealthChecks
from callboard.jobs.postgres import schema
from callboard.jobs.postgres.schema import NEEDED, SchemaFit, SchemaStatus
from callboard.scheduler.leader import Leader
from tests.e2e.stage import until
from tests.integration.api_client import api_in_process
from tests.integration.core.factories import claimed, enqueue, execution, own_database, run_sql

NEWER = "9999"
BEFORE = f"{int(NEEDED) - 1:04}"


@contextmanager
def tables_at(platform, version):
    """The tables say that they have this version."""
    run_sql(platform, "UPDATE callboard.alembic_version SET version_num = :version", version=version)
    try:
        yield
    finally:
        run_sql(platform, "UPDATE callboard.alembic_version SET version_num = :version", version=NEEDED)


@contextmanager
def without(platform, table, column):
    """A column has another name, so statements that name it fail."""
    run_sql(platform, f"ALTER TABLE callboard.{table} RENAME COLUMN {column} TO gone")
    try:
        yield
    finally:
        run_sql(platform, f"ALTER TABLE callboard.{table} RENAME COLUMN gone TO {column}")


@pytest.fixture(autouse=True)
def fresh(platform, monkeypatch):
    """Every refused statement reads the version, and nothing is known of earlier tests."""
    monkeypatch.setattr(schema, "_READ_EVERY", -1.0)
    platform.database.fit = SchemaFit()


def shown(of):
    return REGISTRY.get_sample_value("callboard_schema_version", {"of": of})


def test_the_needed_version_is_alembics_newest(platform):
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(schema.MIGRATIONS)).get_current_head() == NEEDED


def test_a_worker_claims_nothing_from_older_tables_and_goes_on_when_they_fit(platform):
    with execution(platform) as worker:
        enqueue(platform)
        with capture_logs() as logs:
            with tables_at(platform, BEFORE):
                for _ in range(3):
                    with pytest.raises(SchemaMismatch, match=f"{BEFORE}.*needs {NEEDED}.*db upgrade"):
                        worker.served_queues([])
                assert (shown("tables"), shown("program")) == (int(BEFORE), int(NEEDED))
            assert [queue.name for queue in worker.served_queues([])] == ["reports"]
            assert worker.served_queues(["none"]) == []
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [
            ("tables.do_not_fit", "warning"), ("tables.fit", "info"),
        ]  # fmt: skip
        assert shown("tables") == int(NEEDED)


def test_the_outcome_of_a_running_job_waits_for_tables_that_fit(platform):
    with execution(platform) as worker:
        [job] = claimed(platform, worker)
        end = Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE)
        with (
            tables_at(platform, BEFORE), without(platform, "jobs", "finished_at"),
            pytest.raises(SchemaMismatch, match="db upgrade"),
        ):  # fmt: skip
            worker.finish([end])
        assert worker.finish([end])[job.id].state is JobState.SUCCEEDED


def test_the_scheduler_does_nothing_and_keeps_the_leadership(platform):
    leader = Leader(platform.database)
    leader.check()
    with tables_at(platform, BEFORE):
        with pytest.raises(SchemaMismatch):
            leader.ask(platform.feed.look_as_leader)
        with pytest.raises(SchemaMismatch):
            platform.feed.look()
        assert leader.leads
        with without(platform, "schedules", "next_fire_at"), pytest.raises(SchemaMismatch):
            leader.ask(platform.feed.look_as_leader)
        assert leader.leads
    assert leader.ask(platform.feed.look_as_leader) is not None
    leader.resign()


def test_newer_tables_fit_until_they_refuse_a_statement(platform):
    with execution(platform) as worker, api_in_process(platform) as api, tables_at(platform, NEWER):
        assert worker.served_queues(["none"]) == []
        assert api.operator.enqueue()["state"] == "queued"
        with without(platform, "queues", "limited"), pytest.raises(SchemaMismatch, match="newer than this"):
            worker.served_queues([])
        with pytest.raises(SchemaMismatch, match="restart it"):
            worker.served_queues([])
        answer = until(lambda: (ready := api.anonymous.get("/readyz")) and not ready.is_success and ready)
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert "newer than this program" in answer.json()["checks"]["migrations"]


def test_after_a_while_newer_tables_are_tried_again():
    now = [0.0]
    fit = SchemaFit(type("Hands", (), {"monotonic": staticmethod(lambda: now[0])})())
    newer = SchemaStatus(NEWER)
    assert fit.explain(lambda: newer, for_good=False) is not None
    fit.verify(newer)
    assert fit.explain(lambda: newer, for_good=True) is not None
    with pytest.raises(SchemaMismatch):
        fit.verify(newer)
    now[0] = 11.0
    fit.verify(newer)


@pytest.mark.parametrize("version", [BEFORE, NEWER])
def test_the_api_answers_503_with_the_reason_and_recovers(platform, version):
    body = {"name": "build_report", "kwargs": {"account_id": 7}}
    with api_in_process(platform) as api:
        assert api.operator.post("/v1/jobs", body).status_code == 201
        with tables_at(platform, version), without(platform, "jobs", "options"):
            for ask in (lambda: api.operator.post("/v1/jobs", body), lambda: api.viewer.get("/v1/jobs")):
                answer = ask()
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                assert answer.json()["error"]["code"] == "UNAVAILABLE"
                assert version in answer.json()["error"]["message"]
        assert api.operator.post("/v1/jobs", body).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE callboard.jobs ADD strange int NOT NULL",
        "ALTER TABLE callboard.jobs RENAME TO gone",
        "ALTER TABLE callboard.jobs RENAME COLUMN tags TO gone",
        "ALTER SCHEMA callboard RENAME TO gone",
    ],
)
def test_an_enqueue_into_tables_that_do_not_fit_names_the_command(database_url, change):
    with own_database(database_url, "misfit") as platform:
        platform.migrations.upgrade()
        enqueue(platform)
        run_sql(platform, "TRUNCATE callboard.jobs CASCADE")
        run_sql(platform, f"UPDATE callboard.alembic_version SET version_num = '{BEFORE}'; {change}")
        with pytest.raises(SchemaMismatch, match="callboard db upgrade"):
            enqueue(platform)


def test_a_client_names_the_command_while_there_are_no_tables(database_url):
    with own_database(database_url, "misfit") as empty, pytest.raises(SchemaMismatch, match="db upgrade"):
        Client.over(empty).get(new_id())


def test_doctor_names_both_versions(platform, redis_url):
    with tables_at(platform, BEFORE):
        checks = {c.name: c for c in HealthChecks(platform.database, redis_url, platform.migrations).checks()}
    assert (checks["tables"].status, checks["tables"].mend) == ("fail", "run 'callboard db upgrade'")
    assert BEFORE in checks["tables"].message


def test_the_version_is_read_once_a_second_while_many_statements_are_refused(platform, monkeypatch):
    monkeypatch.setattr(schema, "_READ_EVERY", 60.0)
    reads = []

    def read():
        reads.append(1)
        return SchemaStatus(BEFORE)

    for _ in range(5):
        assert platform.database.fit.explain(read, for_good=True) is not None
    assert len(reads) == 1


def test_a_refused_statement_keeps_its_meaning_when_the_version_is_right(platform):
    with pytest.raises(Exception, match="nothing_like_it") as refused, platform.database.autocommit() as to:
        to.execute(text("SELECT nothing_like_it()"))
    assert not isinstance(refused.value, SchemaMismatch)


def test_a_version_that_cannot_be_read_leaves_the_first_error(platform):
    """The table of the version lost its column, so reading it fails as the statement did."""
    run_sql(platform, "ALTER TABLE callboard.alembic_version RENAME COLUMN version_num TO other")
    try:
        platform.database.fit._read = None
        with pytest.raises(Unavailable, match="no_such_column"), platform.database.autocommit() as connection:
            connection.execute(text("SELECT no_such_column FROM callboard.jobs"))
    finally:
        run_sql(platform, "ALTER TABLE callboard.alembic_version RENAME COLUMN other TO version_num")
