"""The sender program for bare Dramatiq: calls its actors' `send`, as benchmarks/pace.py directs."""

from collections.abc import Sequence

from benchmarks import pace
from benchmarks.rivals import bare_jobs


class BareSender:
    """Sends with the actors' `send`. Dramatiq has no bulk call, so many jobs are sent in a loop."""

    def noop(self) -> object:
        return bare_jobs.noop.send()

    def noops(self, count: int) -> object:
        return [bare_jobs.noop.send() for _ in range(count)]

    def picked_up(self, sent: Sequence[float]) -> object:
        return [bare_jobs.picked_up.send(one) for one in sent]


if __name__ == "__main__":
    pace.main(BareSender())
