"""Postgres dies while jobs run: their outcomes are kept and written once it is back, and nobody is judged
meanwhile.
"""

import signal
import time

import pytest
from sqlalchemy import text

from tests.e2e.stage import own_servers, own_stage, strike, until


def test_workers_keep_their_outcomes_while_postgres_restarts(redis_url) -> None:
    with own_servers() as servers:
        servers.postgres.ensure()
        with own_stage(servers, servers.urls.database_url, redis_url) as stage:
            scheduler = stage.start("scheduler")
            stage.enqueue_many("second", 32)
            jobs = stage.enqueue_many("ledger", 4000)
            worker = stage.worker(processes=2, threads=8)
            until(lambda: stage.states()["succeeded"] >= 500)
            strike(servers.postgres, signal.SIGQUIT)
            until(lambda: worker.events("consumer.waiting") or worker.events("flusher.waiting"))
            servers.postgres.ensure()
            stage.platform.database.close()
            until(lambda: stage.states() == {"succeeded": 4032})
            assert len({str(job) for job in jobs} - set(stage.starts())) == 0
            # a claim that the crash undid is claimed again: what two children held at most
            assert stage.starts().total() - 4032 <= 2 * 64
            assert (stage.attempts(), stage.crashes()) == ({1: 4032}, {0: 4032})
            assert worker.alive
            assert scheduler.alive


@pytest.mark.long
def test_an_outage_longer_than_the_lease_takes_no_running_job_away(redis_url) -> None:
    with own_servers() as servers:
        servers.postgres.ensure()
        with own_stage(servers, servers.urls.database_url, redis_url) as stage:
            stage.start("scheduler", lease_ttl="4s")
            job = stage.enqueue("until_there", path=str(stage.folder / "gate"))
            worker = stage.worker(lease_ttl="4s")
            stage.wait_started(1)
            holder = stage.job(job).worker_id
            # a claim does not wait for the disk; this one is to outlive the crash
            with stage.platform.database.autocommit() as connection:
                connection.execute(text("CHECKPOINT"))
            strike(servers.postgres, signal.SIGQUIT)
            # longer than the lease: the outage itself is what is tested
            time.sleep(6)
            servers.postgres.ensure()
            stage.platform.database.close()
            # the reaper's time to judge has come and gone once a lease is renewed twice its length later
            until(lambda: stage.leases(worker) != [])
            time.sleep(10)
            (stage.folder / "gate").touch()
            done = stage.platform.waiting.wait(job, None)
            assert (done.state, done.attempt, done.crash_count) == ("succeeded", 1, 0)
            assert done.worker_id == holder
            assert stage.starts().total() == 1
