"""Latency: the time from just before the enqueue until the job's function starts, by the monotonic clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks import draining, work
from benchmarks.arena import Arena
from benchmarks.cases import drain
from benchmarks.harness import Case, Contender, Figures, Target, percentiles
from benchmarks.processes import Running
from benchmarks.rivals import bare
from benchmarks.sending import SenderProgram
from callboard.jobs.model.request import job_request

_WARM_UP_JOBS = 50
#: The mean time between two jobs. Seconds.
_SHORT_PAUSE, _LONG_PAUSE = 0.04, 1.0
_IDLE_SECONDS = 2.0
_NEW_QUEUE_EVERY = 0.25
_LOAD_SECONDS = 5.0
Workers = Callable[[Arena], AbstractContextManager[Running]]
Sender = Callable[[Arena], SenderProgram]


class Delays:
    """The delays that jobs wrote to a file."""

    def __init__(self, arena: Arena) -> None:
        self.path = Path(arena.folder) / "delays"
        self.path.touch()
        self._arena = arena

    def take(self, count: int) -> list[float]:
        """Wait for `count` delays, return them in seconds, and empty the file."""
        self._arena.until(lambda: self.path.read_bytes().count(b"\n") >= count, 60.0, every=0.2)
        delays = [float(line) for line in self.path.read_text().split()]
        self.path.write_text("")
        return delays


@contextmanager
def idle(arena: Arena, workers: Workers, sender: Sender) -> Iterator[Delays]:
    """Run workers until the block ends; let them run some jobs first, and then wait."""
    delays = Delays(arena)
    with arena.extra_env(work.ledger(str(delays.path))), workers(arena):
        sender(arena).run("random", _WARM_UP_JOBS, _SHORT_PAUSE)
        delays.take(_WARM_UP_JOBS)
        time.sleep(_IDLE_SECONDS)
        yield delays


def pickup(workers: Workers, sender: Sender, jobs: int, pause: float) -> Contender:
    """Return a contender that sends one job at a time to idle workers, `pause` seconds apart on average."""

    def measure(arena: Arena) -> Figures:
        arena.reset()
        count = arena.size(jobs, 5)
        with idle(arena, workers, sender) as delays:
            sender(arena).run("random", count, pause)
            return percentiles(delays.take(count))

    return measure


def new_queues(arena: Arena) -> Figures:
    """Enqueue one job into each of several queues that did not exist before, while the workers are idle."""
    arena.reset()
    count = arena.size(40, 3)
    enqueue = arena.platform.enqueue
    with idle(arena, _ours, SenderProgram.ours) as delays:
        for number in range(count):
            named = {"name": "picked_up", "queue": f"bench-{number}"}
            enqueue.accept(
                enqueue.check(job_request({**named, "kwargs": {"sent": time.monotonic()}}), draining.PYTHON)
            )
            time.sleep(_NEW_QUEUE_EVERY)
        return percentiles(delays.take(count))


def half_load(full: Contender, workers: Workers, sender: Sender) -> Contender:
    """Return a contender that sends jobs at half the rate that `full` has just measured.

    `offered` is the rate that the sender reached.
    """

    def measure(arena: Arena) -> Figures:
        rate = full(arena)["rate"] / 2
        arena.reset()
        with idle(arena, workers, sender) as delays:
            seconds = _LOAD_SECONDS if not arena.quick else 1.0
            answer = sender(arena).run("rate", rate, seconds)
            count = int(rate * seconds)
            return {"offered": count / answer["seconds"], **percentiles(delays.take(count))}

    return measure


def _ours(arena: Arena) -> AbstractContextManager[Running]:
    return arena.ready()


CASES = [
    Case(
        "latency-idle",
        "idle, a job every 20-60 ms: enqueue until it starts",
        {
            "callboard": pickup(_ours, SenderProgram.ours, 300, _SHORT_PAUSE),
            "dramatiq": pickup(bare.workers, SenderProgram.bare, 300, _SHORT_PAUSE),
        },
        [Target("p50_ms", at_most=5), Target("p95_ms", at_most=12)],
    ),
    # A poller with back-off polls more rarely the longer its queue is empty.
    Case(
        "latency-seldom",
        "idle, a job every 0.5-1.5 s: enqueue until it starts",
        {
            "callboard": pickup(_ours, SenderProgram.ours, 20, _LONG_PAUSE),
            "dramatiq": pickup(bare.workers, SenderProgram.bare, 20, _LONG_PAUSE),
        },
    ),
    Case(
        "latency-new",
        "idle, the first job of a new queue: enqueue until it starts",
        {"callboard": new_queues},
        [Target("p50_ms", at_most=20)],
    ),
    Case(
        "latency-half",
        "at half of its own drain rate: enqueue until it starts",
        {
            "callboard": half_load(drain.ours("noop", 20_000), _ours, SenderProgram.ours),
            "dramatiq": half_load(drain.theirs("noop", 10_000), bare.workers, SenderProgram.bare),
        },
    ),
]
