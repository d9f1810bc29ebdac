"""The program that sends, for bare Dramatiq: what benchmarks/pace.py says, by its actors' `send`."""

from collections.abc import Sequence

from benchmarks import pace
from benchmarks.rivals import bare_jobs


class BareSender:
    """It knows no sending in bulk: many are a loop."""

    def noop(self) -> object:
        return bare_jobs.noop.send()

    def noops(self, count: int) -> object:
        return [bare_jobs.noop.send() for _ in range(count)]

    def picked_up(self, sent: Sequence[float]) -> object:
        return [bare_jobs.picked_up.send(one) for one in sent]


if __name__ == "__main__":
    pace.main(BareSender())
