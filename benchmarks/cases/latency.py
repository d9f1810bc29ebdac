"""Latency: from just before the enqueue until the job's function begins, by the clock that all processes share."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks import work
from benchmarks.arena import Arena
from benchmarks.cases import drain
from benchmarks.harness import Case, Contender, Figures, Target, percentiles
from benchmarks.processes import Running
from benchmarks.rivals import bare
from benchmarks.sending import Program

_WARM = 50
#: Seconds between two jobs in the mean.
_OFTEN, _SELDOM = 0.04, 1.0
_IDLE_SECONDS = 2.0
_LOAD_SECONDS = 5.0
Workers = Callable[[Arena], AbstractContextManager[Running]]
Sender = Callable[[Arena], Program]


class Delays:
    """What the jobs have noted, in a file of the arena."""

    def __init__(self, arena: Arena) -> None:
        self.path = Path(arena.folder) / "delays"
        self.path.touch()
        self._arena = arena

    def take(self, count: int) -> list[float]:
        """So many delays, in seconds, once they are there; the file is empty then."""
        self._arena.until(lambda: self.path.read_bytes().count(b"\n") >= count, 60.0, every=0.2)
        delays = [float(line) for line in self.path.read_text().split()]
        self.path.write_text("")
        return delays


@contextmanager
def idle(arena: Arena, workers: Workers, sender: Sender) -> Iterator[Delays]:
    """Workers that have run some jobs and wait for more."""
    delays = Delays(arena)
    with arena.given(work.ledger(str(delays.path))), workers(arena):
        sender(arena).run("random", _WARM, _OFTEN)
        delays.take(_WARM)
        time.sleep(_IDLE_SECONDS)
        yield delays


def pickup(workers: Workers, sender: Sender, jobs: int, pause: float) -> Contender:
    """One job at a time into an idle platform, with so many seconds between two in the mean."""

    def measure(arena: Arena) -> Figures:
        arena.reset()
        count = arena.size(jobs, 5)
        with idle(arena, workers, sender) as delays:
            sender(arena).run("random", count, pause)
            return percentiles(delays.take(count))

    return measure


def half_load(full: Contender, workers: Workers, sender: Sender) -> Contender:
    """As many a second as half of what was drained a moment before; `offered` is what the sender came to."""

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
        "idle, a job every 20-60 ms: enqueue until it begins",
        {
            "callboard": pickup(_ours, Program.ours, 300, _OFTEN),
            "dramatiq": pickup(bare.workers, Program.bare, 300, _OFTEN),
        },
        [Target("p50_ms", at_most=5), Target("p95_ms", at_most=12)],
    ),
    # Who polls looks less and less often the longer nothing comes.
    Case(
        "latency-seldom",
        "idle, a job every 0.5-1.5 s: enqueue until it begins",
        {
            "callboard": pickup(_ours, Program.ours, 20, _SELDOM),
            "dramatiq": pickup(bare.workers, Program.bare, 20, _SELDOM),
        },
    ),
    Case(
        "latency-half",
        "at half of one's own drain rate: enqueue until it begins",
        {
            "callboard": half_load(drain.ours("noop", 20_000), _ours, Program.ours),
            "dramatiq": half_load(drain.theirs("noop", 10_000), bare.workers, Program.bare),
        },
    ),
]
