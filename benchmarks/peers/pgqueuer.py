"""PgQueuer, the fastest peer that keeps its jobs in Postgres, in its fastest setup.

- Two processes of pgqueuer.run() under uvloop, as its command `pgq run` does. (The command of version 1.6.0
  fails at its start with the typer version that it installs.) A manager has one asyncpg connection, as the
  tuning guide advises. With large batches, neither a pool nor five managers in a process, as in its own
  benchmark, was faster.
- batch_size decides its speed: the default of 10 is for long jobs, and its guide says to raise it for short
  ones. Above 250 it gains little; no value greater than BATCH was faster.
- No max_concurrent_tasks: a limit adds a count to the statement that fetches jobs, and is slower.
- Its default tables: durability "durable", all logged. synchronous_commit is on, as for all contenders.
- `pgq autovac` is run first, as its guide recommends.
- It runs only coroutines: a synchronous job is wrapped in asyncio.to_thread(), as its error message advises.
- Its `concurrency_limit` holds for all workers, as ours does: the statement that fetches jobs counts those in
  progress. The code of the workers sets it, so a change needs a restart. It has no rates and no limit for
  each key. Ends are written in batches of batch_size, and a place is free when its end is written. So a
  limit needs a batch_size that is not greater than the limit. Of those measured, these were the fastest.

All jobs are done when its queue is empty and its log has one "successful" entry per job.
"""

from typing import ClassVar

from benchmarks.harness import Peer, Target
from benchmarks.peers.guest import Guest, Stay

BATCH = 1_000


class PgQueuer(Guest):
    package: ClassVar = "pgqueuer"
    app: ClassVar = "pgqueuer_app"

    def __init__(self, limit: int = 0, batch: int = BATCH) -> None:
        """limit: how many jobs may run at once. 0: no limit."""
        self._limit = limit
        self._batch = batch

    def prepare(self, stay: Stay) -> None:
        stay.environment["PGQUEUER_DSN"] = stay.environment["BENCH_DATABASE_URL"]
        stay.run("pgq", "install")
        stay.run("pgq", "autovac")

    def workers(self, job: str) -> list[list[object]]:  # noqa: ARG002 - its workers run them all
        return [["python", "-m", self.app, self._batch, self._limit]] * 2

    def left(self, stay: Stay) -> int:
        return stay.number("SELECT count(*) FROM pgqueuer")

    def done(self, stay: Stay) -> int:
        return stay.number(
            "SELECT count(DISTINCT job_id) - (SELECT count(*) FROM pgqueuer)"
            " - (SELECT count(*) FROM pgqueuer_log WHERE status NOT IN ('queued', 'picked', 'successful'))"
            " FROM pgqueuer_log WHERE status = 'successful'"
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
        "limits-one": PgQueuer(limit=1, batch=1).drain("noop", 1_000),
        "limits-sixteen": PgQueuer(limit=16, batch=8).drain("noop", 20_000),
    },
    {
        "drain-sync": [Target("rate", at_least=1.1, of="pgqueuer")],
        "drain-async": [Target("rate", at_least=1.2, of="pgqueuer")],
        "enqueue-one": [Target("rate", at_least=1.0, of="pgqueuer")],
        "enqueue-bulk": [Target("rate", at_least=1.1, of="pgqueuer")],
        "limits-one": [Target("rate", at_least=2, of="pgqueuer")],
        "limits-sixteen": [Target("rate", at_least=2, of="pgqueuer")],
    },
)
