"""The queue between our consumer and Dramatiq's worker threads, in C instead of Python.

Dramatiq's own is a PriorityQueue, whose locks and notifications cost more than a small job does. Order by
priority is decided by the claim here, so first in, first out is all that is asked of it.
"""

from queue import Empty, SimpleQueue

from callboard.workers.execute.attempt import Attempt


class WorkQueue:
    """What `dramatiq.Worker` uses of a queue. Its items are attempts, which stand for Dramatiq's own items too."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Attempt] = SimpleQueue()
        self.put = self._items.put
        self.get = self._items.get
        self.get_nowait = self._items.get_nowait
        #: Dramatiq's own count for `Worker.join`; here the slots know what is under way.
        self.unfinished_tasks = 0

    def task_done(self) -> None:
        """Nothing to do: the slots count."""

    def take_all(self) -> list[Attempt]:
        """Empty the queue; what no thread has begun."""
        taken = []
        while True:
            try:
                taken.append(self.get_nowait())
            except Empty:
                return taken
