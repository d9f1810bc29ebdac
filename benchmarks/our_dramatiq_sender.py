"""The sender program of a Dramatiq program that has changed its broker to Callboard's: calls `.send()`."""

from collections.abc import Sequence

import dramatiq

from benchmarks import pace, work
from callboard.dramatiq import CallboardBroker

dramatiq.set_broker(CallboardBroker())


@dramatiq.actor(queue_name="bench")
def sent_noop() -> None:
    """Do nothing."""


@dramatiq.actor(queue_name="bench")
def sent_picked_up(sent: float) -> None:
    """Record the time from `sent` until now."""
    work.note_delay(sent)


class DramatiqSender:
    """Sends with the actors' `send`, which returns when the job is committed."""

    def noop(self) -> object:
        return sent_noop.send()

    def noops(self, count: int) -> object:
        return [sent_noop.send() for _ in range(count)]

    def picked_up(self, sent: Sequence[float]) -> object:
        return [sent_picked_up.send(one) for one in sent]


if __name__ == "__main__":
    pace.main(DramatiqSender())
