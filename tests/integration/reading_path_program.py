"""Traces one enqueue and one attempt in a process of its own, and prints the files of ours that they enter,
as JSON.

Arguments: the URLs of a migrated Postgres and of Redis, and the module that defines the job `add`. A worker
           child runs in
this process, so that it can be traced.
"""

import json
import os
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: What a reader knows already: errors, metrics and values; and how a connection waits, decodes and fails,
#: which lies beneath a statement or a command.
NOT_COUNTED = (
    "jobs/errors.py",
    "jobs/metrics.py",
    "jobs/metric_labels.py",
    "jobs/model/",
    "jobs/postgres/sessions/",
    "jobs/postgres/rows/",
    "jobs/redis/faults.py",
    "jobs/redis/link.py",
    "jobs/redis/timed_connections.py",
    "jobs/redis/typed_keys.py",
)
#: The threads of a worker child that claim, run and finish: the consumer, which has no name, those of jobs, and the
#: flusher.
ATTEMPT_THREADS = ("Thread-", "callboard-job", "callboard-flusher")


class Trace:
    """Notes the files of calls: of all calls of some threads, and of all that happens inside some functions."""

    def __init__(self) -> None:
        self.on = False
        self.by_thread: dict[str, set[str]] = defaultdict(set)
        self.by_call: dict[str, set[str]] = defaultdict(set)
        self.roots: dict[Any, str] = {}
        self._local = threading.local()

    def __call__(self, frame: Any, event: str, _argument: Any) -> None:
        root = getattr(self._local, "root", None)
        if event == "call" and self.on:
            if root is None and frame.f_code in self.roots:
                self._local.root = root = frame
            file = relative(frame.f_code.co_filename)
            if file is not None:
                self.by_thread[threading.current_thread().name].add(file)
                if root is not None:
                    self.by_call[self.roots[root.f_code]].add(file)
        elif event == "return" and frame is root:
            self._local.root = None


def relative(name: str) -> str | None:
    """The path of a file of ours in the repository; None for any other file and for those that are not
    counted.
    """
    with suppress(ValueError):
        path = Path(name).resolve().relative_to(ROOT)
        if not path.parts[0].startswith((".venv", "tests")) and not path.as_posix().startswith(NOT_COUNTED):
            return path.as_posix()
    return None


def main(database_url: str, redis_url: str, jobs: str) -> None:
    trace = Trace()
    threading.setprofile(trace)

    from callboard import Client
    from callboard.config.settings import load_settings, sqlalchemy_url
    from callboard.jobs.attempts.claims import Claims
    from callboard.jobs.attempts.ends import Ends
    from callboard.jobs.enqueue.enqueue import Enqueue
    from callboard.jobs.model.basics.ids import new_id
    from callboard.jobs.platform import Platform
    from callboard.workers import child
    from callboard.workers.board import Board
    from callboard.workers.child_plan import ChildPlan
    from callboard.workers.execute import sync_runner

    def run(client: Client, count: int) -> None:
        for _ in range(count):
            assert client.wait(client.enqueue("add", {"a": 1, "b": 2}).id, timeout=60).result == 3
            time.sleep(0.2)

    settings = load_settings().model_copy(update={"jobs": (jobs,), "threads": 1, "slots": 8})
    worker = child.WorkerChild(
        ChildPlan(new_id(), settings, database_url, redis_url), Board(1 + settings.async_slots)
    )
    worker.start()
    client = Client.over(Platform(sqlalchemy_url(database_url), redis_url))
    run(client, 2)
    trace.roots = {
        Claims.claim.__code__: "claim",
        sync_runner.run.__code__: "run",
        Ends.finish.__code__: "finish",
    }
    trace.on = True
    run(client, 1)
    trace.on = False
    attempt = set().union(*trace.by_call.values())
    whole = set().union(
        *(files for name, files in trace.by_thread.items() if name.startswith(ATTEMPT_THREADS))
    )

    trace.by_call.clear()
    # Up to the push: afterwards the client may read the job to return it.
    trace.roots = {Enqueue.check.__code__: "check", Enqueue.accept.__code__: "accept"}
    trace.on = True
    sys.setprofile(trace)
    client.enqueue("add", {"a": 1, "b": 2})
    sys.setprofile(None)
    trace.on = False
    enqueue = set().union(*trace.by_call.values(), {relative(Client.enqueue.__code__.co_filename)})
    found = {
        "attempt": sorted(attempt),
        "worker": sorted(whole - attempt),
        "enqueue": sorted(filter(None, enqueue)),
    }
    print(json.dumps(found), flush=True)
    # The worker's threads need not be ended.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
