"""RQ: two SimpleWorkers, which run jobs in their own process; results are not kept.

The default Worker forks for each job and is several times slower. RQ's performance notes recommend
SimpleWorker for very short jobs.
"""

from typing import ClassVar

from benchmarks.harness import Peer
from benchmarks.peers.guest import Guest, Stay


class Rq(Guest):
    package: ClassVar = "rq"
    app: ClassVar = "rq_app"

    def prepare(self, stay: Stay) -> None:
        stay.environment["RQ_REDIS_URL"] = stay.arena.urls.redis_url

    def workers(self, job: str) -> list[list[object]]:  # noqa: ARG002 - there is one job
        return [["rq", "worker", "--worker-class", "rq.worker.SimpleWorker", "--quiet", "bench"]] * 2

    def left(self, stay: Stay) -> int:
        client = stay.arena.redis
        return int(client.llen("rq:queue:bench")) + int(client.zcard("rq:wip:bench"))

    def done(self, stay: Stay) -> int:
        client = stay.arena.redis
        counts = [client.hget(key, "successful_job_count") for key in client.scan_iter("rq:worker:*")]
        return sum(int(count or 0) for count in counts)


_PEER = Rq()
PEER = Peer(
    "rq",
    _PEER.installed,
    {
        "drain-sync": _PEER.drain("noop", 2_000),
        "enqueue-one": _PEER.enqueue("single", 10_000),
        "enqueue-bulk": _PEER.enqueue("bulk", 40_000),
    },
)
