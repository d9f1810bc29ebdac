"""Redis dies while jobs run: accepting and running go on from Postgres, and tokens flow again once it is back."""

import signal

import redis

from jobs.transport import Transport
from tests.e2e.stage import own_servers, own_stage, strike, until


def pops(url: str) -> int:
    """How many blocking pops this Redis has served since it started."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("commandstats").get("cmdstat_bzmpop", {}).get("calls", 0))


def test_jobs_are_accepted_and_run_while_redis_is_away_and_tokens_flow_when_it_is_back(
    database_url, platform
) -> None:
    with own_servers() as servers:
        servers.valkey.ensure()
        url = servers.urls.redis_url
        with own_stage(servers, database_url, url) as stage:
            scheduler = stage.start("scheduler")
            worker = stage.worker(processes=2, threads=8)
            stage.enqueue_many("second", 48)
            stage.wait_started(16)
            strike(servers.valkey, signal.SIGKILL)
            stage.enqueue_many("ledger", 300)
            for n in range(20):
                stage.enqueue("ledger", n=n)
            until(lambda: stage.states() == {"succeeded": 368})

            servers.valkey.ensure()
            until(lambda: pops(url) >= 2)
            stage.enqueue_many("ledger", 500)
            until(lambda: stage.states() == {"succeeded": 868})
            with redis.Redis.from_url(url) as client:
                assert client.info("commandstats")["cmdstat_zadd"]["calls"] > 0
            until(lambda: Transport(url).depth("default") == 0)
            assert stage.starts().total() == 868
            assert (stage.attempts(), stage.crashes()) == ({1: 868}, {0: 868})
            assert worker.alive
            assert scheduler.alive
            assert len(worker.events("worker.started")) == 2
