"""Procrastinate: its own command in two processes of eight jobs at a time, with default tables and retention.

A synchronous job runs in a thread. One job at a time, its default, reached 0.6 of this rate, fifty reached
0.9.
"""

from typing import ClassVar

from benchmarks.arena import THREADS
from benchmarks.harness import Peer
from benchmarks.peers.guest import Guest, Stay


class Procrastinate(Guest):
    package: ClassVar = "procrastinate"
    app: ClassVar = "procrastinate_app"

    def prepare(self, stay: Stay) -> None:
        stay.environment["PROCRASTINATE_APP"] = f"{self.app}.app"
        stay.run("procrastinate", "schema", "--apply")

    def workers(self, job: str) -> list[list[object]]:  # noqa: ARG002 - its workers run them all
        return [["procrastinate", "--log-level", "warning", "worker", "--concurrency", THREADS]] * 2

    def left(self, stay: Stay) -> int:
        return stay.number("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")

    def done(self, stay: Stay) -> int:
        return stay.number("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")


_PEER = Procrastinate()
PEER = Peer(
    "procrastinate",
    _PEER.installed,
    {
        "drain-sync": _PEER.drain("noop", 4_000),
        "drain-async": _PEER.drain("noop_async", 4_000),
        "enqueue-one": _PEER.enqueue("single", 5_000),
        "enqueue-bulk": _PEER.enqueue("bulk", 80_000),
    },
)
