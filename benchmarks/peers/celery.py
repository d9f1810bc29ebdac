"""Celery on Redis, results ignored: two workers of its solo pool, prefetching as its guide to optimizing has it for short tasks.

That is where it is fastest with jobs that do nothing. Workers of 8 threads came to 0.7 of it, its default, one worker with a
prefork pool of two, to less than half.
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
