"""taskiq on its Redis list queue, without results: its command with two processes under uvloop.

Synchronous jobs run in threads. Neither prefetching nor more than the default 100 tasks at a time was faster.
"""

from typing import ClassVar

from benchmarks.harness import Peer
from benchmarks.peers.guest import Guest, Stay


class Taskiq(Guest):
    package: ClassVar = "taskiq_redis"
    app: ClassVar = "taskiq_app"
    bulk: ClassVar = False

    def workers(self, job: str) -> list[list[object]]:  # noqa: ARG002 - its workers run them all
        return [["taskiq", "worker", f"{self.app}:broker", "--workers", 2, "--log-level", "WARNING"]]

    def left(self, stay: Stay) -> int:
        return int(stay.arena.redis.llen("bench"))

    def done(self, stay: Stay) -> int:
        return stay.counted()


_PEER = Taskiq()
PEER = Peer(
    "taskiq",
    _PEER.installed,
    {
        "drain-sync": _PEER.drain("noop", 20_000),
        "drain-async": _PEER.drain("noop_async", 40_000),
        "enqueue-one": _PEER.enqueue("single", 20_000),
    },
)
