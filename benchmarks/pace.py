"""What the programs that send have in common: how they are told what to send and when, and what they answer.

loop COUNT THREADS    no-ops one at a time, as fast as it goes, from so many threads
bulk COUNT SIZE       no-ops, so many at a time
random COUNT MEAN     jobs that note their delay, one at a time, half to one and a half times MEAN seconds apart
rate RATE SECONDS     the same, so many a second
"""

import json
import random
import sys
import time
from collections.abc import Sequence
from threading import Thread
from typing import Final, Protocol

_BEAT: Final = 0.010
_SEED: Final = 8


class Sender(Protocol):
    """How one project sends."""

    def noop(self) -> object:
        """One no-op."""

    def noops(self, count: int) -> object:
        """So many no-ops in one call."""

    def picked_up(self, sent: Sequence[float]) -> object:
        """A job for each of these times, which notes how long ago it was."""


def main(sender: Sender) -> None:
    """Do what the command line says; prints the seconds it took, and this process's CPU seconds, as JSON."""
    how, *numbers = sys.argv[1:]
    first = float(numbers[0])
    sender.noop()  # connects, and reads what it needs to know
    cpu, begun = time.process_time(), time.monotonic()
    match how:
        case "loop":
            _from_threads(sender, int(first), int(numbers[1]))
        case "bulk":
            for _ in range(int(first) // int(numbers[1])):
                sender.noops(int(numbers[1]))
        case "random":
            _at_random(sender, int(first), float(numbers[1]))
        case "rate":
            _at_rate(sender, first, float(numbers[1]))
        case _:
            raise SystemExit(f"it is not known how to send {how!r}")
    answer = {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}
    print(json.dumps(answer))


def _from_threads(sender: Sender, count: int, threads: int) -> None:
    def send() -> None:
        for _ in range(count // threads):
            sender.noop()

    if threads == 1:
        send()
        return
    crowd = [Thread(target=send) for _ in range(threads)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()


def _at_random(sender: Sender, count: int, mean: float) -> None:
    gaps = random.Random(_SEED)
    for _ in range(count):
        time.sleep(mean * gaps.uniform(0.5, 1.5))
        sender.picked_up([time.monotonic()])


def _at_rate(sender: Sender, rate: float, seconds: float) -> None:
    """Every 10 ms as many as are due by then; after a delay, what has been missed at once."""
    begun, total, sent = time.monotonic(), int(rate * seconds), 0
    while sent < total:
        now = time.monotonic()
        due = min(int((now - begun) * rate), total) - sent
        if due > 0:
            sender.picked_up([now] * due)
            sent += due
        # by the clock, not by the end of the last: who sends slowly is not spared
        time.sleep(max(0.0, _BEAT - (time.monotonic() - now)))
