"""PgQueuer: the fastest of those that keep their jobs in Postgres, in the set-up in which it is fastest.

- Two processes of pgqueuer.run() under uvloop, which is what its command `pgq run` does (that of 1.6.0 fails before it starts, with
  the typer it installs); a manager on one asyncpg connection, as its guide to tuning advises. Neither a pool nor five managers in a
  process, which its own benchmark has, were faster with large batches.
- batch_size is what its speed hangs on: the default of 10 is meant for jobs that take their time. Its guide says to raise it
  for short ones; from 250 on little more is gained, and BATCH is where no greater one was faster.
- No max_concurrent_tasks: a limit adds a count to the statement that takes jobs, and is slower.
- Its tables as it ships them: durability "durable", all logged. synchronous_commit is on, as for everybody in the arena.
- `pgq autovac` was run, the first point of its guide's list.
- It runs coroutines alone: a synchronous job is wrapped in asyncio.to_thread(), as its error message says.

All are done when its queue is empty and its log says "successful" once for each.
"""

from typing import ClassVar

from benchmarks.harness import Peer, Target
from benchmarks.peers.guest import Guest, Stay

BATCH = 1_000


class PgQueuer(Guest):
    package: ClassVar = "pgqueuer"
    app: ClassVar = "pgqueuer_app"

    def prepare(self, stay: Stay) -> None:
        stay.environment["PGQUEUER_DSN"] = stay.environment["BENCH_DATABASE_URL"]
        stay.run("pgq", "install")
        stay.run("pgq", "autovac")

    def workers(self, job: str) -> list[list[object]]:  # noqa: ARG002 - its workers run them all
        return [["python", "-m", self.app, BATCH]] * 2

    def left(self, stay: Stay) -> int:
        return stay.number("SELECT count(*) FROM pgqueuer")

    def done(self, stay: Stay) -> int:
        return stay.number(
            "SELECT count(DISTINCT job_id) - (SELECT count(*) FROM pgqueuer) - (SELECT count(*) FROM pgqueuer_log "
            "WHERE status NOT IN ('queued', 'picked', 'successful')) FROM pgqueuer_log WHERE status = 'successful'"
        )


_PEER = PgQueuer()
PEER = Peer(
    "pgqueuer",
    _PEER.installed,
    {
        "drain-sync": _PEER.drain("noop", 80_000),
        "drain-async": _PEER.drain("noop_async", 150_000),
        "enqueue-one": _PEER.enqueue("single", 10_000),
        "enqueue-bulk": _PEER.enqueue("bulk", 250_000),
    },
    {
        "drain-sync": [Target("rate", at_least=1.1, of="pgqueuer")],
        "drain-async": [Target("rate", at_least=1.2, of="pgqueuer")],
        "enqueue-bulk": [Target("rate", at_least=1.1, of="pgqueuer")],
    },
)
