"""A DBA changes tables beneath running processes of every kind, while jobs flow through every door.

No request is answered 500, no door stays shut, every job ends once, and no outcome becomes a failure.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import run
from sys import executable
from uuid import UUID

import httpx
import psycopg
import pytest

from callboard import Client
from callboard.jobs.errors import Unavailable
from callboard.jobs.postgres.schema import NEEDED
from tests.e2e.stage import PATIENCE, Process, Stage, until

BEFORE = f"{int(NEEDED) - 1:04}"
ENDED = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()"""
#: Each is one round of a DBA; several statements run one after the other, not in one transaction.
CHANGES = {
    "columns come and go": (
        "ALTER TABLE callboard.jobs ADD COLUMN extra int NOT NULL DEFAULT 1",
        "ALTER TABLE callboard.queues ADD COLUMN extra text",
        "ALTER TABLE callboard.jobs DROP COLUMN extra",
        "ALTER TABLE callboard.queues DROP COLUMN extra",
    ),
    "types change": (
        "ALTER TABLE callboard.jobs ALTER COLUMN progress_note TYPE varchar(4000)",
        "ALTER TABLE callboard.queues ALTER COLUMN name TYPE varchar(200)",
        "ALTER TABLE callboard.queues ALTER COLUMN name TYPE text",
        "ALTER TABLE callboard.jobs ALTER COLUMN progress_note TYPE text",
    ),
    "indexes": (
        "CREATE INDEX jobs_of_dba ON callboard.jobs (enqueued_at)",
        "REINDEX TABLE CONCURRENTLY callboard.jobs",
        "REINDEX TABLE callboard.jobs",
        "DROP INDEX callboard.jobs_of_dba",
    ),
    "tables are rewritten": (
        "VACUUM FULL callboard.jobs",
        "VACUUM FULL callboard.queues",
        "CLUSTER callboard.jobs USING jobs_pkey",
        "VACUUM ANALYZE callboard.jobs",
    ),
    "functions": (
        "ALTER FUNCTION callboard.uuid7() COST 7",
        "DO $$BEGIN EXECUTE pg_get_functiondef('callboard.uuid7'::regproc); END$$",
        "ALTER FUNCTION callboard.uuid7() RESET ALL",
    ),
    "constraints and triggers": (
        "ALTER TABLE callboard.jobs ADD CONSTRAINT of_dba CHECK (epoch >= 0) NOT VALID",
        "ALTER TABLE callboard.jobs VALIDATE CONSTRAINT of_dba",
        "ALTER TABLE callboard.jobs DROP CONSTRAINT of_dba",
    ),
    "sessions": (ENDED,),
}  # fmt: skip


class Door(threading.Thread):
    """Enqueues one job after the other until it is stopped, and counts what was acknowledged.

    enqueue: returns the job's id, or None if Postgres was not available; any other error ends the door.
    """

    def __init__(self, enqueue: Callable[[], UUID | None]) -> None:
        super().__init__(daemon=True)
        self._enqueue = enqueue
        self.acknowledged: list[UUID] = []
        self.refused_in_a_row = 0
        self.error: BaseException | None = None
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopping.wait(0.01):
                job = self._enqueue()
                self.refused_in_a_row = 0 if job else self.refused_in_a_row + 1
                if job:
                    self.acknowledged.append(job)
        except BaseException as error:
            self.error = error
            raise


@contextmanager
def doors(stage: Stage, url: str, token: str) -> Iterator[list[Door]]:
    """Jobs arrive by Python, HTTP and SQL until the end of the block. None of these doors may fail."""
    database = stage.platform.database.engine.url
    address = database.set(drivername="postgresql").render_as_string(hide_password=False)
    client = Client.over(stage.platform)
    web = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)

    def by_python() -> UUID | None:
        try:
            return client.enqueue("ledger", {"n": 1}).id
        except Unavailable:
            return None

    def by_http() -> UUID | None:
        answer = web.post("/v1/jobs", json={"name": "ledger", "kwargs": {"n": 1}})
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
            return None
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    sql: list[psycopg.Connection] = []

    def by_sql() -> UUID | None:
        if not sql or sql[0].closed:
            sql[:] = [psycopg.connect(address, autocommit=True)]
        try:
            row = sql[0].execute("SELECT callboard.enqueue('ledger', '{\"n\": 1}')").fetchone()
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            # The session was ended: that is the caller's own connection. Or a downgrade took the newer tables
            # away while the function ran: the caller's transaction is rolled back.
            return None
        assert row is not None
        return UUID(str(row[0]))

    threads = [Door(enqueue) for enqueue in (by_python, by_http, by_sql)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.join(PATIENCE)
        web.close()
        for connection in sql:
            connection.close()


def operator_key(stage: Stage) -> str:
    return stage.platform.auth.create("load", "operator")[1]


def platform_of(stage: Stage) -> tuple[Process, Process, Process, str]:
    """A worker, a scheduler and an API that run, and the API's address."""
    worker = stage.worker(processes=2, metrics_port=0)
    scheduler = stage.start("scheduler")
    api = stage.start("api", port=0)
    url = str(until(lambda: api.events("api.listening"))[0]["url"])
    return worker, scheduler, api, url


def flows_on(threads: list[Door]) -> None:
    """Wait until each door has let jobs in again."""
    before = [len(thread.acknowledged) for thread in threads]
    until(
        lambda: (
            any(thread.error for thread in threads)
            or all(
                len(thread.acknowledged) > known + 3 for thread, known in zip(threads, before, strict=True)
            )
        )
    )
    assert [thread.error for thread in threads] == [None] * len(threads)


def all_end_once(stage: Stage, threads: list[Door]) -> None:
    """Every acknowledged job succeeds with its first attempt, and ran once."""
    jobs = [job for thread in threads for job in thread.acknowledged]
    until(lambda: stage.states().keys() == {"succeeded"}, 2 * PATIENCE)
    assert stage.attempts().keys() == {1}
    starts = stage.starts()
    assert {str(job) for job in jobs} <= starts.keys()
    assert [job for job, times in starts.items() if times > 1] == []


@pytest.mark.parametrize(
    "change",
    [
        # These take a minute, as each job that waits for a table does.
        pytest.param(name, marks=pytest.mark.long)
        if name in ("tables are rewritten", "types change")
        else name
        for name in CHANGES
    ],
)
def test_jobs_flow_while_a_dba_changes_the_tables(stage: Stage, change: str) -> None:
    worker, scheduler, api, url = platform_of(stage)
    database = stage.platform.database.engine.url.set(drivername="postgresql")
    with (
        psycopg.connect(database.render_as_string(hide_password=False), autocommit=True) as dba,
        doors(stage, url, operator_key(stage)) as threads,
    ):
        flows_on(threads)
        for statement in CHANGES[change] * 2:
            dba.execute(statement)
            flows_on(threads)
    all_end_once(stage, threads)
    for process in (worker, scheduler, api):
        assert process.alive
        assert [line for line in process.log.read_text().splitlines() if '"level":"error"' in line] == []


def migrate(stage: Stage, *words: str) -> None:
    """Run `callboard db`."""
    done = run(
        [executable, "-m", "callboard", "db", *words], cwd=stage.folder, env=stage.environment(),
        capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_processes_wait_for_their_tables_and_go_on_when_they_fit(stage: Stage) -> None:
    """A downgrade beneath running processes, a worker that starts meanwhile, and the upgrade."""
    worker, scheduler, api, url = platform_of(stage)
    token = operator_key(stage)
    try:
        with doors(stage, url, token) as threads:
            flows_on(threads)
            migrate(stage, "downgrade", BEFORE, "--yes")
            for process in (worker, scheduler, api):
                until(lambda p=process: p.events("tables.do_not_fit"))  # type: ignore[misc]
            ready = until(
                lambda: (found := httpx.get(f"{url}/readyz")) and found.status_code == 503 and found
            )
            assert "callboard db upgrade" in ready.json()["checks"]["migrations"]
            held = stage.states()["running"]
            early = stage.start("worker")
            early_api, early_scheduler = stage.start("api", port=0), stage.start("scheduler")
            early_url = str(until(lambda: early_api.events("api.listening"))[0]["url"])
            assert httpx.get(f"{early_url}/readyz").status_code == 503
            until(lambda: early.events("tables.do_not_fit"))
            assert (early.alive, early.events("worker.started")) == (True, [])
            until(lambda: stage.states()["running"] == 0 or held == 0)
            migrate(stage, "upgrade")
            for process in (worker, scheduler, api):
                until(lambda p=process: p.events("tables.fit"))  # type: ignore[misc]
            until(lambda: early.events("worker.ready"))
            for address in (url, early_url):
                until(lambda at=address: httpx.get(f"{at}/readyz").status_code == 200)  # type: ignore[misc]
            flows_on(threads)
        all_end_once(stage, threads)
        assert worker.metric('callboard_schema_version{of="tables"}') == int(NEEDED)
        for process in (worker, scheduler, api, early, early_api, early_scheduler):
            assert [line for line in process.log.read_text().splitlines() if '"level":"error"' in line] == []
    finally:
        stage.platform.migrations.upgrade()
