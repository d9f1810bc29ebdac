"""Pushes the tokens of new jobs to Redis: at once, or in a burst from a thread, together with later ones.

A push takes a fifth of the time of an enqueue. In a burst no caller waits for it, and one push serves several
jobs. A single job is pushed before its enqueue returns.
"""

import atexit
import os
from _thread import start_new_thread
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from time import sleep
from typing import Final
from weakref import WeakSet

from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.hint import Offer
from callboard.jobs.redis.transport import Transport, best_effort
from callboard.jobs.watched_thread import survive

#: A push that follows another one within this time belongs to a burst. Seconds.
_BURST: Final = 0.005
#: How long the thread gathers tokens before it pushes them. Seconds.
_GATHER: Final = 0.001
#: More tokens than this are pushed at once: nothing is gained by waiting for others.
_MANY: Final = 100
#: The thread ends when there was nothing to push for this time. Seconds.
_IDLE: Final = 2.0
#: How long `close` waits for a push of the thread. Seconds.
_CLOSE_WITHIN: Final = 1.0


class Pusher:
    """Pushes tokens. A failure is no error, because the feeder pushes what is missing in Redis."""

    def __init__(self, transport: Transport, clock: Clock = SYSTEM) -> None:
        self._transport = transport
        self._clock = clock
        self._start_clean()
        _pushers.add(self)

    def _start_clean(self) -> None:
        self._process = os.getpid()
        self._pushed_at = float("-inf")
        self._waiting: SimpleQueue[Sequence[Offer] | None] = SimpleQueue()
        #: The thread holds it while it runs.
        self._serving = Lock()

    def push(self, offers: Sequence[Offer]) -> None:
        """Push these tokens now, or in a burst within milliseconds."""
        if self._process != os.getpid():
            # A forked process has neither the thread nor the tokens that its parent pushes.
            self._start_clean()
        now = self._clock.monotonic()
        is_burst = now - self._pushed_at < _BURST
        self._pushed_at = now
        if not is_burst or sum(len(offer.tokens) for offer in offers) > _MANY:
            self._push(offers)
            return
        self._waiting.put(offers)
        # The thread looks at the queue again after it has released the lock.
        if not self._serving.locked():
            try:
                start_new_thread(self._serve, ())
            except RuntimeError:
                # At a limit of threads, or while the interpreter ends. The jobs are stored: this is no error.
                self._push(self._taken())

    def close(self) -> None:
        """Push what waits, and end the thread. A later push may start another one."""
        if self._process != os.getpid():
            return
        self._push(self._taken())
        if self._serving.locked():
            self._waiting.put(None)
            if self._serving.acquire(timeout=_CLOSE_WITHIN):
                self._serving.release()

    def _serve(self) -> None:
        while not self._waiting.empty() and self._serving.acquire(blocking=False):
            try:
                self._push_until_idle()
            finally:
                self._serving.release()

    def _push_until_idle(self) -> None:
        while True:
            try:
                first = self._waiting.get(timeout=_IDLE)
            except Empty:
                return
            if first is None:
                return
            sleep(_GATHER)
            survive("callboard-pusher", partial(self._push, [*first, *self._taken()]))

    def _taken(self) -> list[Offer]:
        """Return the tokens that wait."""
        taken: list[Offer] = []
        try:
            while (offers := self._waiting.get_nowait()) is not None:
                taken += offers
            self._waiting.put(None)
        except Empty:
            pass
        return taken

    def _push(self, offers: Sequence[Offer]) -> None:
        if offers:
            with best_effort("push", count=len(offers)):
                self._transport.offer(offers)


#: Every Pusher of this process.
_pushers: Final[WeakSet[Pusher]] = WeakSet()


@atexit.register
def _push_all() -> None:
    for pusher in list(_pushers):
        pusher.close()
