"""The queue between our consumer and Dramatiq's worker threads, implemented in C.

Dramatiq's own queue is a PriorityQueue: its locks and notifications cost more than a small job. The claim has
already decided the order, so first in, first out is enough here.
"""

from queue import Empty, SimpleQueue

from callboard.workers.execute.attempt import Attempt


class WorkQueue:
    """The part of a queue that `dramatiq.Worker` uses. Its items are attempts."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Attempt] = SimpleQueue()
        self.put = self._items.put
        self.get = self._items.get
        self.get_nowait = self._items.get_nowait
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
