"""Two applications share one database and one Redis: each has its own processes, jobs and schedules."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.client import Client
from callboard.jobs.model.states import JobState
from callboard.jobs.platform import Platform
from tests.e2e.stage import PATIENCE, Stage, staged, until


@pytest.fixture
def other(stage: Stage, database_url: str, redis_url: str) -> Iterator[Stage]:
    """A second stage on the first one's servers, in the schema `other`."""
    assert stage.platform.database.schema == "callboard"
    with closing(Platform(sqlalchemy_url(database_url), redis_url, schema="other")) as platform:
        platform.migrations.upgrade()
        try:
            with staged(platform, database_url, redis_url) as made:
                yield made
        finally:
            with platform.database.transaction() as connection:
                connection.execute(text("DROP SCHEMA other CASCADE"))


def enqueue(stage: Stage, **options: object) -> list[UUID]:
    """Ten jobs with the names and unique keys that the other application's jobs have, too."""
    client = Client.over(stage.platform)
    return [client.enqueue("ledger", {"n": n}, unique_key=f"n-{n}", **options).id for n in range(10)]


def callboard(stage: Stage, *command: str) -> Any:
    """What a command prints, in this stage's schema."""
    done = subprocess.run(
        [sys.executable, "-m", "callboard", *command, "--json"],
        cwd=stage.folder, env=stage.environment(schema=stage.platform.database.schema), check=True,
        capture_output=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def asked(url: str, path: str, token: str) -> tuple[int, object]:
    """The status and the JSON of a GET."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_two_applications_run_side_by_side(stage: Stage, other: Stage, database_url: str) -> None:
    both = (stage, other)
    schedulers = [one.start("scheduler", schema=one.platform.database.schema) for one in both]
    for scheduler in schedulers:
        until(lambda scheduler=scheduler: scheduler.events("scheduler.leading"))
    jobs = [set(enqueue(one)) for one in both]
    for one, own in zip(both, jobs, strict=True):
        own.add(Client.over(one.platform).enqueue("ledger", {"n": 10}, delay="500ms").id)
        one.worker(schema=one.platform.database.schema)
    with psycopg.connect(database_url, autocommit=True) as caller:
        for one, own in zip(both, jobs, strict=True):
            function = sql.Identifier(one.platform.database.schema, "enqueue")
            made = caller.execute(sql.SQL("SELECT {}('ledger', '{{\"n\": 11}}')").format(function)).fetchone()
            own.update(made or ())
    for one, own in zip(both, jobs, strict=True):
        assert len(own) == 12
        for job in own:
            assert one.platform.waiting.wait(job, None).state is JobState.SUCCEEDED
    for one, own in zip(both, jobs, strict=True):
        # each job ran once, on its own application's worker
        assert one.starts() == {str(job): 1 for job in own}
        listed = callboard(one, "job", "list", "--limit", "100")
        assert {job["id"] for job in listed["items"]} == {str(job) for job in own}
    assert all(scheduler.alive for scheduler in schedulers)


def test_a_key_of_one_application_opens_nothing_of_the_other(stage: Stage, other: Stage) -> None:
    jobs = [enqueue(one)[0] for one in (stage, other)]
    token = callboard(other, "key", "create", "viewer", "--role", "viewer")["token"]
    urls = []
    for one in (stage, other):
        api = one.start("api", port=0, schema=one.platform.database.schema)
        urls.append(str(until(lambda api=api: api.events("api.listening"))[0]["url"]))
    assert asked(urls[0], f"/v1/jobs/{jobs[0]}", token)[0] == 401
    assert asked(urls[1], f"/v1/jobs/{jobs[1]}", token)[0] == 200
    assert asked(urls[1], f"/v1/jobs/{jobs[0]}", token)[0] == 404
