"""The loops of the scheduler: they call functions at a steady pace, by the monotonic clock alone."""

from collections.abc import Callable
from threading import Condition, Event, Lock, Thread
from typing import Final, TypeVar

import structlog

from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.outage import Outage
from callboard.jobs.redis.faults import RedisUnavailable
from callboard.jobs.watched_thread import report_failure

T = TypeVar("T")
_THREAD: Final = "callboard-{}"

log = structlog.get_logger(__name__)


class Loops:
    """Calls each function in a thread of its own, so a slow one does not delay the others.

    The wall clock may jump: nothing here reads it. Waits with a timeout use the monotonic clock.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._stopping = Event()
        self._threads: list[Thread] = []
        self._tasks: dict[str, _Task] = {}

    def every(self, seconds: float, name: str, work: Callable[[], object]) -> None:
        """Call `work` again and again, with a pause of so many seconds after each call."""

        def paced() -> float:
            work()
            return seconds

        self.paced(seconds, name, paced)

    def paced(self, seconds: float, name: str, work: Callable[[], float]) -> None:
        """Call `work` again and again. It returns the pause before its next call; after an error: `seconds`.

        The first call comes after one pause.
        """
        guarded = LoopWork(name)

        def run() -> None:
            pause: float | None = seconds
            while not self._stopping.wait(seconds if pause is None else pause):
                pause = guarded(work)

        with self._lock:
            self._begin(name, run)

    def run_soon(self, name: str, work: Callable[[], object]) -> bool:
        """Call `work` once in the thread of this name; return False if its last call still runs."""
        with self._lock:
            if self._stopping.is_set():
                return False
            task = self._tasks.get(name)
            if task is None:
                task = self._tasks[name] = _Task(name)
                self._begin(name, task.run)
        return task.take(work)

    def stop(self) -> None:
        """End all loops. A call that runs is waited for."""
        with self._lock:
            self._stopping.set()
        for task in self._tasks.values():
            task.stop()
        for thread in self._threads:
            thread.join()

    def _begin(self, name: str, run: Callable[[], None]) -> None:
        thread = Thread(target=run, name=_THREAD.format(name), daemon=True)
        self._threads.append(thread)
        thread.start()


class LoopWork:
    """Runs the work of a loop. An error does not end the loop.

    An outage is logged as `Outage` says.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._outage = Outage(log, "scheduler.waiting", "scheduler.recovered", loop=name)

    def __call__(self, work: Callable[[], T]) -> T | None:
        """Return what the work returned, and None after an error."""
        try:
            result = work()
        except Busy as error:
            # Postgres answers: it refused one statement. The next call repeats it.
            STORE_ERRORS.labels("postgres", self._name).inc()
            log.warning("scheduler.refused", loop=self._name, reason=error.message)
            return None
        except Unavailable as error:
            store = "redis" if isinstance(error, RedisUnavailable) else "postgres"
            STORE_ERRORS.labels(store, self._name).inc()
            self._outage.failed(error.message)
            return None
        except Exception:  # a loop that ended would stop the platform without a message
            log.exception("scheduler.loop_failed", loop=self._name)
            return None
        except BaseException as error:  # noqa: BLE001 - the same, and nothing of the platform raises it
            report_failure(_THREAD.format(self._name), error)
            return None
        self._outage.over()
        return result


class _Task:
    """Runs one function at a time, when it is told to."""

    def __init__(self, name: str) -> None:
        self._guarded = LoopWork(name)
        self._changed = Condition()
        self._work: Callable[[], object] | None = None
        self._stopping = False

    def take(self, work: Callable[[], object]) -> bool:
        """Run this next; return False if the last work has not ended."""
        with self._changed:
            if self._work is not None or self._stopping:
                return False
            self._work = work
            self._changed.notify()
            return True

    def stop(self) -> None:
        """End after the work that runs."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work is not None or self._stopping)
                work = self._work
            if work is None:
                return
            self._guarded(work)
            with self._changed:
                self._work = None
