"""The queue between our consumer and Dramatiq's worker threads, implemented in C.

Dramatiq's own queue is a PriorityQueue: its locks and notifications cost more than a small job. The claim has
already decided the order, so first in, first out is enough here.
"""

from queue import Empty, SimpleQueue
from typing import Any

from callboard.jobs.dramatiq.broker import VIRTUAL_QUEUE
from callboard.workers.execute.attempt import Attempt


class WorkQueue:
    """The part of a queue that `dramatiq.Worker` uses. Its items are attempts."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Attempt] = SimpleQueue()
        self.put = self._items.put
        self.get = self._items.get
        self.get_nowait = self._items.get_nowait
        #: How many attempts no thread has started.
        self.count = self._items.qsize
        #: Dramatiq reads it in `Worker.join`. Here the slots count the attempts.
        self.unfinished_tasks = 0

    def task_done(self) -> None:
        """Do nothing: the slots count."""

    def take_all(self) -> list[Attempt]:
        """Remove and return all attempts that no thread has started."""
        taken = []
        while True:
            try:
                taken.append(self.get_nowait())
            except Empty:
                return taken


class OneConsumer(dict[str, Any]):
    """The consumers of a Dramatiq worker by queue name. There is one consumer, for every queue name."""

    def __missing__(self, queue_name: str) -> Any:
        if queue_name == VIRTUAL_QUEUE:
            raise KeyError(queue_name)
        return self[VIRTUAL_QUEUE]
