"""Redis is there, and of no use: whatever it does instead of answering, jobs are accepted quickly and run,
once each.
"""

import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import psutil
import pytest
import redis
from sqlalchemy import text

from callboard.jobs.tables import METADATA
from tests.e2e.sick_redis import SickRedis, cutting, garbling, of_another_kind, refusing, sick_redis
from tests.e2e.stage import Process, Stage, own_servers, own_stage, until

#: An enqueue waits for Redis a fraction of a second at worst, and rarely at all; the rest is for a busy
#: machine. Seconds.
EACH, MEDIAN = 5.0, 0.3


@dataclass
class Ward:
    """A platform whose Redis can be made ill: through the proxy, or by its own settings."""

    stage: Stage
    proxy: SickRedis
    redis_url: str
    worker: Process
    scheduler: Process

    @contextmanager
    def own_ways(self) -> Iterator[redis.Redis]:
        """A connection to the Redis behind the proxy."""
        with redis.Redis.from_url(self.redis_url) as client:
            yield client

    def all_done(self, jobs: list[UUID]) -> bool:
        found = self.stage.platform.jobs.get_many(jobs)
        return len(found) == len(jobs) and {job.state for job in found} == {"succeeded"}


@pytest.fixture(scope="module")
def ward(migrated, database_url) -> Iterator[Ward]:
    with migrated.database.transaction() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(table.fullname for table in METADATA.sorted_tables)}"))
    with own_servers() as servers:
        servers.valkey.ensure()
        path = f"{servers.valkey.socket_folder}/{servers.valkey.socket_name}"
        with (
            sick_redis(path) as proxy,
            own_stage(servers, database_url, proxy.url) as stage,
        ):
            scheduler = stage.start("scheduler")
            worker = stage.worker(processes=2, threads=8, metrics_port=0)
            yield Ward(stage, proxy, servers.urls.redis_url, worker, scheduler)


@contextmanager
def answering(ward: Ward, **how: object) -> Iterator[None]:
    """The proxy behaves like this."""
    for name, value in how.items():
        setattr(ward.proxy, name, value)
    try:
        yield
    finally:
        ward.proxy.heal()


@contextmanager
def full(ward: Ward) -> Iterator[None]:
    with ward.own_ways() as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextmanager
def read_only(ward: Ward) -> Iterator[None]:
    """The replica of a primary that is gone."""
    with ward.own_ways() as client:
        client.replicaof("127.0.0.1", 1)
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextmanager
def stopped(ward: Ward) -> Iterator[None]:
    with ward.own_ways() as client:
        server = psutil.Process(client.info("server")["process_id"])
    server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.send_signal(signal.SIGCONT)


SICK = {
    "full": full,
    "read-only": read_only,
    "stopped": stopped,
    "silent": lambda ward: answering(ward, hang=True),
    "slow": lambda ward: answering(ward, delay=1.5),
    "a little slow": lambda ward: answering(ward, delay=0.15),
    "deaf to pushes": lambda ward: answering(ward, denied=b"ZADD"),
    "deaf to pops": lambda ward: answering(ward, denied=b"ZMPOP"),
    "cut": lambda ward: answering(ward, answer=cutting),
    "garbled": lambda ward: answering(ward, answer=garbling),
    "of another kind": lambda ward: answering(ward, answer=of_another_kind),
    "loading": lambda ward: answering(
        ward, answer=refusing("LOADING Redis is loading the dataset in memory")
    ),
    "misconfigured": lambda ward: answering(ward, answer=refusing("MISCONF Redis is configured to save RDB")),
    "closed to us": lambda ward: answering(ward, answer=refusing("NOAUTH Authentication required.")),
    "cluster down": lambda ward: answering(ward, answer=refusing("CLUSTERDOWN Hash slot not served")),
}


@pytest.mark.parametrize("how", SICK)
def test_jobs_are_accepted_at_once_and_run_once_while_redis_is(ward, how) -> None:
    jobs: list[UUID] = []
    took: list[float] = []
    with SICK[how](ward):
        jobs += ward.stage.enqueue_many("ledger", 200)
        for n in range(20):
            began = time.monotonic()
            jobs.append(ward.stage.enqueue("ledger", n=n))
            took.append(time.monotonic() - began)
        jobs.append(ward.stage.enqueue_with("ledger", {"n": 0}, delay="500ms"))
        until(lambda: ward.all_done(jobs))
    assert max(took) < EACH
    assert statistics.median(took) < MEDIAN
    jobs += ward.stage.enqueue_many("ledger", 200)
    until(lambda: ward.all_done(jobs))
    starts = ward.stage.starts()
    assert {starts[str(job)] for job in jobs} == {1}
    assert {(job.attempt, job.crash_count) for job in ward.stage.platform.jobs.get_many(jobs)} == {(1, 0)}
    assert ward.worker.alive
    assert ward.scheduler.alive
    assert not [*ward.scheduler.events("scheduler.loop_failed"), *ward.worker.events("waiting.wake_failed")]
    assert len(ward.worker.events("worker.started")) == 2


@pytest.mark.parametrize("how", ["full", "silent"])
def test_a_backlog_is_worked_off_at_a_good_rate_while_redis_is(ward, how) -> None:
    with SICK[how](ward):
        # more than two children can do in time if they waited half a second between batches
        jobs = ward.stage.enqueue_many("ledger", 10_000)
        until(lambda: ward.stage.states() == {"succeeded": ward.stage.states().total()})
    assert ward.all_done(jobs)


@pytest.mark.long
def test_a_job_is_picked_up_quickly_while_redis_is_silent_and_tokens_are_used_again_when_it_is_back(
    ward,
) -> None:
    def waited() -> float:
        job = ward.stage.platform.waiting.wait(ward.stage.enqueue("clock"), None)
        return float(job.result) - job.enqueued_at.timestamp()

    with SICK["silent"](ward):
        # until it is noticed
        waited()
        assert statistics.median([waited() for _ in range(8)]) < 1.0

    until(lambda: ward.worker.metric("callboard_claims_without_token_total") >= 8)

    def by_token() -> bool:
        before = ward.worker.metric("callboard_claims_without_token_total")
        for _ in range(5):
            waited()
        return ward.worker.metric("callboard_claims_without_token_total") == before

    until(by_token)
