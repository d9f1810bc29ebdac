"""What the tests of the command line share: `callboard(...)` runs a command in this process, on real servers."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
from click.testing import CliRunner
from sqlalchemy import text

from callboard.cli.main import cli
from callboard.config.settings import sqlalchemy_url
from callboard.jobs.attempts.repository import claiming, ending
from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import AttemptError, Finish
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.states import Verb
from callboard.jobs.platform import Platform
from callboard.jobs.tables import METADATA

SECRET = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on stderr, which is an error."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("error: "), self.err
        return self.err.removeprefix("error: ").rstrip("\n")


@dataclass
class Callboard:
    """Runs commands with these CALLBOARD_* settings and no others."""

    settings: dict[str, str]
    columns: int = 80
    runner: CliRunner = field(default_factory=CliRunner)

    def __call__(self, *args: object, stdin: str | None = None, **settings: str) -> Outcome:
        given = {f"CALLBOARD_{key.upper()}": value for key, value in {**self.settings, **settings}.items()}
        cleared = {key: None for key in os.environ if key.startswith("CALLBOARD_")}
        env = {**cleared, **given, "COLUMNS": str(self.columns)}
        result = self.runner.invoke(cli, [str(arg) for arg in args], input=stdin, env=env)
        return Outcome(result.exit_code, result.stdout, result.stderr)


@dataclass
class Worker:
    """A worker that does what the test says: claims what is queued, and ends it."""

    platform: Platform
    id: UUID = field(default_factory=new_id)

    def register(
        self, queues: tuple[str, ...] = (), names: tuple[str, ...] = ("build_report", "send_mail")
    ) -> None:
        self.platform.workers.register(WorkerCard(self.id, "stage", 4711, queues, names, 8, 64))

    def start(self, queue: str) -> ClaimedJob:
        with self.platform.database.transaction() as connection:
            return claiming.claim_oldest(connection, self.id, new_id(), queue, 1)[0]

    def end(
        self,
        job: ClaimedJob,
        verb: Verb,
        *,
        result: bytes | None = None,
        message: str = "no such account",
    ) -> None:
        failed = verb in {Verb.FAIL, Verb.RETRY}
        trace = f"Traceback (most recent call last):\nValueError: {message}"
        error = (
            AttemptError(job.attempt, datetime.now(UTC), "ValueError", message, trace, "w")
            if failed
            else None
        )
        delay = timedelta(minutes=3) if verb is Verb.RETRY else None
        with self.platform.database.transaction() as connection:
            ending.finish(connection, [Finish(job.id, job.epoch, job.claim_id, verb, result, error, delay)])
        self.platform.transport.announce([job.id])


@pytest.fixture(autouse=True)
def logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command configures the logs of its process; here the process goes on."""
    configure, root = structlog.configure, logging.getLogger()
    before, handlers, level = structlog.get_config(), list(root.handlers), root.level
    # a logger that is kept with the level of one command would be deaf in the next
    monkeypatch.setattr(
        structlog, "configure", lambda **given: configure(**{**given, "cache_logger_on_first_use": False})
    )
    yield
    configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def platform(database_url: str, redis_url: str) -> Iterator[Platform]:
    """The services on migrated, empty tables, with two job types: build_report (reports), send_mail (mail)."""
    with closing(Platform(sqlalchemy_url(database_url), redis_url)) as made:
        made.migrations.upgrade()
        with made.database.transaction() as connection:
            tables = ", ".join(f"callboard.{table.name}" for table in METADATA.sorted_tables)
            connection.execute(text(f"TRUNCATE {tables} CASCADE"))
        for queue in ("reports", "mail", "default"):
            made.transport.forget(queue)
        publish(made)
        yield made


@pytest.fixture
def callboard(
    platform: Platform, database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callboard:
    """Runs commands on the tables of `platform`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Callboard({"database_url": database_url, "redis_url": redis_url, "secret_key": SECRET})


@pytest.fixture
def worker(platform: Platform) -> Worker:
    made = Worker(platform)
    made.register()
    return made


@pytest.fixture
def enqueued(callboard: Callboard) -> Callable[..., str]:
    """Enqueue a job: (name="build_report", *options) -> its id."""

    def enqueue(name: str = "build_report", *options: object) -> str:
        arguments = '{"account_id": 7, "month": "2026-10"}' if name == "build_report" else '{"to": "ann"}'
        outcome = callboard("job", "enqueue", name, "--args", arguments, *options)
        assert outcome.code == 0, outcome.err
        return outcome.out.strip()

    return enqueue


def publish(platform: Platform) -> None:
    def build_report(account_id: int, month: str) -> None: ...
    def send_mail(to: str) -> None: ...
    def take_webhook(event: str, delivery_id: str, payload: Any) -> None: ...

    platform.catalogue.publish(
        [
            JobType(
                "build_report", "reports", describe(build_report).schema, 5, 10, 600.0, "Build a report."
            ),
            JobType("send_mail", "mail", describe(send_mail).schema, 3, 4, None, ""),
            JobType("take_webhook", "mail", describe(take_webhook).schema, 5, 10, None, ""),
        ]
    )
