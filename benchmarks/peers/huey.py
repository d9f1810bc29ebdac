"""Huey on Redis: two consumers with eight threads each, without results. Worker processes were slower."""

from typing import ClassVar

from benchmarks.arena import THREADS
from benchmarks.harness import Peer
from benchmarks.peers.guest import Guest, Stay


class Huey(Guest):
    package: ClassVar = "huey"
    app: ClassVar = "huey_app"
    bulk: ClassVar = False

    def workers(self, job: str) -> list[list[object]]:  # noqa: ARG002 - there is one job
        consumer = ["huey_consumer", f"{self.app}.huey", "--workers", THREADS]
        return [[*consumer, "--no-periodic", "--graceful-signal", "TERM", "--quiet"]] * 2

    def left(self, stay: Stay) -> int:
        return int(stay.arena.redis.llen("huey.redis.bench"))

    def done(self, stay: Stay) -> int:
        return stay.counted()


_PEER = Huey()
PEER = Peer(
    "huey",
    _PEER.installed,
    {"drain-sync": _PEER.drain("noop", 40_000), "enqueue-one": _PEER.enqueue("single", 30_000)},
)
