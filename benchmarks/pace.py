"""The command line that all sender programs share, and the way in which they send.

loop COUNT THREADS    no-ops one at a time, as fast as possible, from THREADS threads
bulk COUNT SIZE       no-ops, SIZE with each call
random COUNT MEAN     jobs that record their delay, one at a time, 0.5 to 1.5 times MEAN seconds apart
rate RATE SECONDS     jobs that record their delay, RATE per second
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
    """How one project sends jobs."""

    def noop(self) -> object:
        """Send one no-op."""

    def noops(self, count: int) -> object:
        """Send `count` no-ops with one call."""

    def picked_up(self, sent: Sequence[float]) -> object:
        """Send a job for each of these times. It records how long ago that time was."""


def main(sender: Sender) -> None:
    """Send as the command line says. Print the seconds it took and this process's CPU seconds as JSON."""
    mode, *numbers = sys.argv[1:]
    first = float(numbers[0])
    sender.noop()  # opens connections and fills caches before the measurement
    cpu, started = time.process_time(), time.monotonic()
    match mode:
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
            raise SystemExit(f"unknown way to send: {mode!r}")
    answer = {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu}
    print(json.dumps(answer))


def _from_threads(sender: Sender, count: int, threads: int) -> None:
    def send() -> None:
        for _ in range(count // threads):
            sender.noop()

    if threads == 1:
        send()
        return
    senders = [Thread(target=send) for _ in range(threads)]
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join()


def _at_random(sender: Sender, count: int, mean: float) -> None:
    gaps = random.Random(_SEED)
    for _ in range(count):
        time.sleep(mean * gaps.uniform(0.5, 1.5))
        sender.picked_up([time.monotonic()])


def _at_rate(sender: Sender, rate: float, seconds: float) -> None:
    """Send every 10 ms the jobs that are due. After a delay, send all overdue jobs at once."""
    started, total, sent = time.monotonic(), int(rate * seconds), 0
    while sent < total:
        now = time.monotonic()
        due = min(int((now - started) * rate), total) - sent
        if due > 0:
            sender.picked_up([now] * due)
            sent += due
        # the pace follows the clock, so a slow sender gets no extra time
        time.sleep(max(0.0, _BEAT - (time.monotonic() - now)))
