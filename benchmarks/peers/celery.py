"""Celery on Redis without results: two workers with the solo pool and the prefetching for short tasks.

The prefetching is that of Celery's optimization guide. For jobs that do nothing this is Celery's fastest
setup. Workers with 8 threads reached 0.7 of its rate; the default, one worker with a prefork pool of two,
less than half.
"""

from typing import ClassVar

from benchmarks.harness import Peer
from benchmarks.peers.guest import Guest, Stay


class Celery(Guest):
    package: ClassVar = "celery"
    app: ClassVar = "celery_app"
    bulk: ClassVar = False

    def workers(self, job: str) -> list[list[object]]:  # noqa: ARG002 - there is one job
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning"]
        worker = ["celery", "--app", self.app, "worker", "--pool", "solo", *quiet]
        return [[*worker, "--hostname", f"bench{number}@%h"] for number in (1, 2)]

    def left(self, stay: Stay) -> int:
        return int(stay.arena.redis.llen("bench")) + int(stay.arena.redis.hlen("unacked"))

    def done(self, stay: Stay) -> int:
        return stay.counted()


_PEER = Celery()
PEER = Peer(
    "celery",
    _PEER.installed,
    {"drain-sync": _PEER.drain("noop", 12_000), "enqueue-one": _PEER.enqueue("single", 8_000)},
)
