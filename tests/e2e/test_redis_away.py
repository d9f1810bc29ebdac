"""Redis dies while jobs run: accepting and running go on from Postgres, and tokens flow again once it is
back.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from uuid import UUID

import httpx
import psycopg
import pytest
import redis

from callboard.jobs.redis.transport import Transport
from tests.e2e.stage import Stage, own_servers, own_stage, strike, until

#: How long Redis stays away, seconds. The promise holds for any time; a minute takes a minute to show.
OUTAGE = float(os.environ.get("CALLBOARD_TEST_OUTAGE", "6"))
#: More than two children can do in the time that `until` has, if they waited half a second between batches.
BACKLOG = 10_000
#: An enqueue may take this long, each and in the middle; most of it is for a busy machine. Seconds.
EACH, MEDIAN = 5.0, 0.3
#: It takes a look or two; the rest is for a busy machine. Seconds.
AT_ONCE = 15.0


def pops(url: str) -> int:
    """How many blocking pops this Redis has served since it started."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("commandstats").get("cmdstat_bzmpop", {}).get("calls", 0))


def pushed(url: str) -> int:
    """How many times tokens were put into this Redis since it started."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("commandstats").get("cmdstat_zadd", {}).get("calls", 0))


class Doors:
    """The four ways in; each returns the job's id."""

    def __init__(self, stage: Stage, database_url: str) -> None:
        self._stage = stage
        self._database_url = database_url
        api = stage.start("api", port=0)
        _, token = stage.platform.auth.create("operator", "operator")
        url = str(until(lambda: api.events("api.listening"))[0]["url"])
        self.api = api
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def python(self) -> UUID:
        return self._stage.enqueue("ledger", n=0)

    def http(self) -> UUID:
        answer = self.client.post("/v1/jobs", json={"name": "ledger", "kwargs": {"n": 0}})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    def sql(self) -> UUID:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            found = connection.execute("select callboard.enqueue('ledger', '{\"n\": 0}'::jsonb)").fetchone()
        return UUID(str(found[0]))

    def cli(self) -> UUID:
        command = [
            sys.executable,
            "-m",
            "callboard",
            "job",
            "enqueue",
            "ledger",
            "--args",
            '{"n": 0}',
            "--json",
        ]
        done = subprocess.run(
            command, cwd=self._stage.folder, env=self._stage.environment(), capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return UUID(json.loads(done.stdout)["id"])


@pytest.mark.long
def test_every_door_stays_open_and_work_goes_on_while_redis_is_dead_and_nothing_needs_a_restart(
    database_url, platform
) -> None:
    with own_servers() as servers:
        servers.valkey.ensure()
        url = servers.urls.redis_url
        with own_stage(servers, database_url, url) as stage:
            scheduler = stage.start("scheduler")
            worker = stage.worker(processes=2, threads=8)
            doors = Doors(stage, database_url)
            jobs = stage.enqueue_many("second", 32)
            stage.wait_started(16)

            strike(servers.valkey, signal.SIGKILL)
            away_until = time.monotonic() + OUTAGE
            jobs += [doors.cli(), doors.sql(), doors.http(), doors.python()]
            took = []
            while time.monotonic() < away_until:
                for door in (doors.python, doors.http, doors.sql):
                    began = time.monotonic()
                    jobs.append(door())
                    took.append(time.monotonic() - began)
                jobs += stage.enqueue_many("ledger", 50)
                time.sleep(0.1)
            assert max(took) < EACH
            assert statistics.median(took) < MEDIAN
            ready = doors.client.get("/readyz")
            assert (ready.status_code, ready.json()["degraded"]) == (200, ["redis"])
            # the last of them ends without Redis, and who waits for it by HTTP hears of it
            last = f"/v1/jobs/{jobs[-1]}"
            until(lambda: doors.client.get(last, params={"wait": "5s"}).json()["state"] == "succeeded")
            # and at a rate that is fit for work: a beat between batches would not do
            jobs += stage.enqueue_many("ledger", BACKLOG)
            until(lambda: stage.states() == {"succeeded": len(jobs)})

            servers.valkey.ensure()
            until(lambda: pops(url) >= 2)
            jobs += stage.enqueue_many("ledger", 500)
            jobs += [doors.cli(), doors.sql(), doors.http(), doors.python()]
            until(lambda: stage.states() == {"succeeded": len(jobs)})
            assert pushed(url) > 0
            until(lambda: Transport(url).depth("default") == 0)
            until(lambda: doors.client.get("/readyz").json()["status"] == "ready")
            # nothing lost, nothing twice, nobody restarted
            assert set(stage.starts()) == {str(job) for job in jobs}
            assert stage.starts().total() == len(jobs)
            assert (stage.attempts(), stage.crashes()) == ({1: len(jobs)}, {0: len(jobs)})
            assert worker.alive
            assert scheduler.alive
            assert doors.api.alive
            assert len(worker.events("worker.started")) == 2


def test_a_redis_that_lost_everything_is_filled_again_at_once(database_url, platform) -> None:
    with own_servers() as servers:
        servers.valkey.ensure()
        url = servers.urls.redis_url
        with own_stage(servers, database_url, url) as stage:
            stage.start("scheduler")
            jobs = stage.enqueue_many("ledger", 3000)
            with redis.Redis.from_url(url) as client:
                until(lambda: Transport(url).depth("default") == len(jobs))
                client.flushall()
                until(lambda: Transport(url).depth("default") == len(jobs), AT_ONCE)
            strike(servers.valkey, signal.SIGKILL)
            servers.valkey.ensure()
            until(lambda: Transport(url).depth("default") == len(jobs), AT_ONCE)
