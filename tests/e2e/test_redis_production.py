"""All processes on a Redis as it is in production: with Sentinel and failovers, with a user of few rights,
with foreign values, and frozen when the processes have to stop.
"""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import UUID

import pytest

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.platform import Platform
from tests.e2e.stage import Stage, staged, until
from tests.integration.core.redis_servers import RedisServer, redis_server, watched
from tests.integration.core.test_redis_rights import documented


@contextmanager
def stage_on(database_url: str, redis_url: str) -> Iterator[Stage]:
    with closing(Platform(sqlalchemy_url(database_url), redis_url)) as platform:
        platform.catalogue.forget()
        with staged(platform, database_url, redis_url) as stage:
            yield stage


@pytest.fixture
def server(tmp_path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "server") as made:
        yield made


def all_done(stage: Stage, jobs: list[UUID]) -> bool:
    found = stage.platform.jobs.get_many(jobs)
    return Counter(job.state for job in found) == {"succeeded": len(jobs)}


def callboard(stage: Stage, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "callboard", *command], cwd=stage.folder, env=stage.environment(), check=False,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def of_redis(stage: Stage) -> list[dict[str, str]]:
    checks = json.loads(callboard(stage, "doctor", "--json").stdout)["checks"]
    return [check for check in checks if check["name"] == "redis"]


@pytest.mark.long
def test_jobs_run_before_during_and_after_a_failover_and_nothing_is_restarted(
    database_url, platform, tmp_path
):
    with watched(tmp_path / "servers") as servers, stage_on(database_url, servers.url) as stage:
        scheduler, worker, api = (
            stage.start("scheduler"),
            stage.worker(processes=2),
            stage.start("api", port=0),
        )
        until(lambda: api.events("api.listening"))
        jobs = stage.enqueue_many("ledger", 100)
        until(lambda: all_done(stage, jobs))
        assert of_redis(stage)[0]["status"] == "ok"

        servers.master.process.kill()
        jobs += stage.enqueue_many("ledger", 100)
        until(lambda: servers.master_port() == servers.replica.port)
        jobs += stage.enqueue_many("ledger", 100)
        until(lambda: all_done(stage, jobs))

        def tokens_flow() -> bool:
            jobs.extend(stage.enqueue_many("ledger", 20))
            with servers.replica.admin() as client:
                return client.info("commandstats").get("cmdstat_bzmpop", {}).get("calls", 0) > 0

        until(tokens_flow)
        until(lambda: all_done(stage, jobs))
        assert of_redis(stage)[0]["status"] == "ok"
        assert callboard(stage, "queue", "pause", "default").returncode == 0
        assert set(stage.starts().values()) == {1}
        assert worker.alive
        assert scheduler.alive
        assert api.alive
        assert not scheduler.events("scheduler.loop_failed")


def test_all_processes_work_with_the_documented_rights_and_are_refused_nothing(
    database_url, platform, server
):
    with server.admin() as client:
        client.execute_command(*documented())
        with stage_on(database_url, server.url.replace("://", "://callboard:secret@")) as stage:
            scheduler, worker = stage.start("scheduler"), stage.worker(processes=2)
            jobs = stage.enqueue_many("ledger", 200)
            jobs.append(stage.enqueue_with("ledger", {"n": 0}, delay="500ms"))
            until(lambda: all_done(stage, jobs))
            assert stage.platform.waiting.wait(stage.enqueue("clock"), None).state == "succeeded"
            assert of_redis(stage)[0]["status"] == "ok"
            # The leader has marked its keys.
            until(lambda: client.exists("callboard:owners"))
            assert client.acl_log() == []
            assert not [*worker.events("redis.refused"), *scheduler.events("redis.refused")]


@pytest.mark.long
def test_a_missing_right_is_one_line_in_each_process_and_all_jobs_run(database_url, platform, server):
    with server.admin() as client:
        client.execute_command(*documented(), "-bzmpop")
        with stage_on(database_url, server.url.replace("://", "://callboard:secret@")) as stage:
            worker = stage.worker(processes=1)
            for _ in range(5):
                jobs = stage.enqueue_many("ledger", 20)
                until(lambda jobs=jobs: all_done(stage, jobs))
            [line] = worker.events("redis.refused")
            assert (line["cause"], "'bzmpop' command" in str(line["reason"])) == ("no_right", True)
            assert "command bzmpop" in of_redis(stage)[0]["message"]


@pytest.mark.long
def test_foreign_values_in_all_places_are_moved_aside_and_jobs_run(database_url, platform, server):
    with server.admin() as client:
        for key in ("queue:default", "owners", "check"):
            client.set(f"callboard:{key}", "mine")
        with stage_on(database_url, server.url) as stage:
            stage.start("scheduler")
            stage.worker(processes=1)
            jobs = stage.enqueue_many("ledger", 50)
            until(lambda: all_done(stage, jobs))
            until(lambda: client.get("callboard:foreign:owners:1") == "mine")
            until(lambda: client.get("callboard:foreign:queue:default:1") == "mine")
            assert client.get("callboard:check") == "mine"
            assert "another program wrote a key" in of_redis(stage)[0]["message"]


@pytest.mark.long
def test_all_processes_stop_in_time_while_redis_is_frozen(database_url, platform, server):
    with stage_on(database_url, server.url) as stage:
        processes = [stage.start("scheduler"), stage.worker(processes=2), stage.start("api", port=0)]
        until(lambda: processes[2].events("api.listening"))
        jobs = stage.enqueue_many("ledger", 50)
        until(lambda: all_done(stage, jobs))
        with server.frozen():
            jobs += stage.enqueue_many("ledger", 50)
            until(lambda: all_done(stage, jobs))
            for process in processes:
                process.send(signal.SIGTERM)
            # `ends` fails after half a minute.
            assert [process.ends() for process in processes] == [0, 0, 0]
