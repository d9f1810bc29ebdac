"""Celery on Redis with its results in Postgres, which tell a job's outcome. Otherwise as celery.py."""

from benchmarks.harness import Peer
from benchmarks.peers.celery import Celery
from benchmarks.peers.guest import Stay


class CeleryPostgres(Celery):
    def prepare(self, stay: Stay) -> None:
        url = stay.environment["BENCH_DATABASE_URL"]
        stay.environment["BENCH_RESULTS"] = url.replace("postgresql://", "db+postgresql+psycopg://", 1)

    def done(self, stay: Stay) -> int:
        return stay.number("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'")


_PEER = CeleryPostgres()
PEER = Peer("celery+postgres", _PEER.installed, {"drain-sync": _PEER.drain("noop", 4_000)})
