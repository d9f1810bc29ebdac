"""What the tests of the core share: rows in any state, workers with leases, job types, databases of their
own.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Connection, event, text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.attempts.claims import Claims
from callboard.jobs.attempts.ends import Ends
from callboard.jobs.attempts.reports import Reports
from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.job import Source
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.new_job import JobSettings, NewJob, UniqueClaim
from callboard.jobs.model.receipt import Receipt
from callboard.jobs.model.request import JobRequest, job_request
from callboard.jobs.model.states import TERMINAL, JobState
from callboard.jobs.platform import Platform

T = TypeVar("T")
PYTHON = Source("python")
NOWHERE = "redis://127.0.0.1:1/0"
#: What a test waits for at most, before it fails. Seconds.
PATIENCE = 60.0


@dataclass(frozen=True)
class Put:
    """A row that stands, and what a verb has to name to move it."""

    id: UUID
    epoch: int
    worker: UUID
    claim_id: UUID


def new_job_of(
    name: str = "build_report",
    queue: str = "reports",
    *,
    kwargs: bytes = b"{}",
    key: str | None = None,
    **settings: Any,
) -> NewJob:
    """A checked job, as `Enqueue.check` makes it."""
    claim = None if key is None else UniqueClaim(key, None, "existing")
    given: dict[str, Any] = {
        "door": "python", "priority": 5, "max_attempts": 10, "run_at": None, "delay": None, "expires_at": None, "tags": (),
        "timeout": None, "hard_timeout": None, "options": None, "limit_key": None,
    } | settings  # fmt: skip
    return NewJob(new_id(), b"[]", kwargs, None, None, JobSettings(name=name, queue=queue, **given), claim)


def enqueue_all(platform: Platform, requests: Sequence[JobRequest], source: Source = PYTHON) -> list[Receipt]:
    """Enqueue these requests in one transaction; returns the receipts."""
    batch = platform.enqueue.check_all(requests, source)
    return platform.enqueue.accept(batch).receipts


def enqueue_one(platform: Platform, request: JobRequest, source: Source = PYTHON) -> Receipt:
    """Enqueue one request; returns its receipt."""
    [receipt] = platform.enqueue.accept(platform.enqueue.check(request, source)).receipts
    return receipt


def put_job(connection: Connection, state: JobState, **columns: Any) -> Put:
    """A consistent row in this state: claimed once, due and expired long ago, so that nothing but the state
    protects it.
    """
    values: dict[str, Any] = {
        "id": new_id(), "name": "build_report", "queue": "reports", "state": str(state), "attempt": 1,
        "max_attempts": 10, "epoch": 4, "source": "python", "run_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00Z", "started_at": "2026-01-01T00:00:01Z", "worker_id": new_id(),
        "claim_id": new_id(), "finished_at": "2026-01-01T00:00:02Z" if state in TERMINAL else None,
    } | columns  # fmt: skip
    names = ", ".join(values)
    bound = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO callboard.jobs ({names}) VALUES ({bound})"), values)
    return Put(values["id"], values["epoch"], values["worker_id"], values["claim_id"])


def row(connection: Connection, job_id: UUID) -> dict[str, Any] | None:
    """The whole row, as JSON; None when it is gone."""
    found = connection.execute(
        text("SELECT to_jsonb(j) FROM callboard.jobs j WHERE id = :id"), {"id": job_id}
    ).scalar_one_or_none()
    return None if found is None else dict(found)


def count(platform: Platform, table: str = "jobs") -> int:
    with platform.database.autocommit() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM callboard.{table}")).scalar_one())


def run_sql(platform: Platform, statement: str, **parameters: Any) -> None:
    with platform.database.transaction() as connection:
        connection.execute(text(statement), parameters)


def lease(platform: Platform, worker: UUID | None = None) -> UUID:
    """A worker with a live lease."""
    worker = worker or new_id()
    platform.workers.register(WorkerCard(worker, "host", 1, (), ("build_report",), 8, 64))
    return worker


def run_out(platform: Platform, worker: UUID) -> None:
    """Let the worker's lease be over."""
    run_sql(
        platform, "UPDATE callboard.workers SET lease_expires_at = now() - interval '1s' WHERE id = :id", id=worker
    )  # fmt: skip


class Execution:
    """The services of one worker in one object."""

    def __init__(self, platform: Platform, worker: UUID) -> None:
        self.worker = worker
        self.claims = Claims(platform.database, worker)
        self.ends = Ends(platform.database, platform.transport, self.claims, platform.followers)
        self.reports = Reports(platform.database, worker)
        self.claim = self.claims.claim
        self.claim_oldest = self.claims.claim_oldest
        self.claim_solo = self.claims.claim_solo
        self.with_arguments = self.claims.with_arguments
        self.adopt = self.claims.adopt
        self.served_queues = self.claims.served_queues
        self.finish = self.ends.finish
        self.hand_back = self.ends.hand_back
        self.notify_freed = self.ends.notify_freed
        self.report = self.reports.report

    def close(self) -> None:
        self.claims.close()
        self.ends.close()


@contextmanager
def execution(platform: Platform, worker: UUID | None = None) -> Iterator[Execution]:
    """What a worker with a live lease does; its kept connections are given back at the end."""
    made = Execution(platform, worker or lease(platform))
    try:
        yield made
    finally:
        made.close()


def enqueue(platform: Platform, number: int = 1, **request: Any) -> list[UUID]:
    """Accepted jobs, whatever the catalogue says."""
    values = {"name": "build_report", "queue": "reports", "unchecked": True, **request}
    receipts = enqueue_all(platform, [job_request(values)] * number)
    return [receipt.id for receipt in receipts]


def backlog(platform: Platform, number: int, queue: str = "reports") -> None:
    """Queued jobs that nobody has pushed."""
    run_sql(
        platform,
        "INSERT INTO callboard.jobs (id, name, queue, state, max_attempts, run_at, source)"
        " SELECT callboard.uuid7(), 'a', :queue, 'queued', 1, now() - n * interval '1ms', 'sql'"
        " FROM generate_series(1, :number) n",
        number=number,
        queue=queue,
    )
    run_sql(
        platform, "INSERT INTO callboard.queues (name) VALUES (:queue) ON CONFLICT DO NOTHING", queue=queue
    )


def claimed(platform: Platform, by: Execution, number: int = 1, **request: Any) -> list[ClaimedJob]:
    """Running jobs."""
    taken = by.claim([(job, 0) for job in enqueue(platform, number, **request)])
    assert len(taken) == number
    return taken


def publish(platform: Platform) -> None:
    """Two job types as a worker publishes them: build_report (strict, reports), take_webhook (hooks)."""

    def build_report(account_id: int, month: str = "2026-10") -> None: ...

    def take_webhook(event: str, delivery_id: str, payload: Any) -> None: ...

    report, webhook = describe(build_report).schema, describe(take_webhook).schema
    platform.catalogue.publish(
        [
            JobType("build_report", "reports", report, 2, 7, 600.0, "Build a report."),
            JobType("take_webhook", "hooks", webhook, 3, 4, None, ""),
        ]
    )


def at_once(number: int, work: Callable[[int], T]) -> list[T]:
    """What `number` threads get that begin in the same moment."""
    gate = threading.Barrier(number)

    def run(index: int) -> T:
        gate.wait(PATIENCE)
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def until(holds: Callable[[], T]) -> T:
    """The first true answer; the test fails when none comes in time."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := holds()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return answer


@contextmanager
def without_redis(platform: Platform) -> Iterator[Platform]:
    """A platform on the same database, whose Redis is nowhere."""
    with closing(Platform(url_of(platform), NOWHERE)) as lame:
        yield lame


def url_of(platform: Platform) -> str:
    return platform.database.engine.url.render_as_string(hide_password=False)


@contextmanager
def own_database(database_url: str, name: str) -> Iterator[Platform]:
    """A platform over a new, empty database, which is dropped at the end."""
    whole = f"{urlsplit(database_url).path.removeprefix('/')}_{name}"
    identifier = sql.Identifier(whole)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
    url = urlunsplit(urlsplit(database_url)._replace(path=f"/{whole}"))
    try:
        with closing(Platform(sqlalchemy_url(url), NOWHERE)) as platform:
            yield platform
    finally:
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


class FakeClock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 22, 9, tzinfo=UTC)
        self._seconds = 1_000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        self._seconds += seconds
        self._now += timedelta(seconds=seconds)


@contextmanager
def statements(platform: Platform) -> Iterator[list[str]]:
    """What this platform tells Postgres within the block, in order; the beginnings and ends of transactions,
    too.
    """
    told: list[str] = []
    heard: dict[str, Callable[..., None]] = {
        "before_cursor_execute": lambda _connection, _cursor, statement, *_: told.append(statement),
        "begin": lambda connection: told.append("BEGIN") if _opens(connection) else None,
        "commit": lambda connection: told.append("COMMIT") if _opens(connection) else None,
    }
    for name, listener in heard.items():
        event.listen(platform.database.engine, name, listener)
    try:
        yield told
    finally:
        for name, listener in heard.items():
            event.remove(platform.database.engine, name, listener)


def _opens(connection: Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT"


def states(platform: Platform, ids: Sequence[UUID]) -> list[str]:
    """The states of these jobs, in the order of the ids; "gone" for those that are no more."""
    found = {job.id: str(job.state) for job in platform.jobs.get_many(ids)}
    return [found.get(job, "gone") for job in ids]
