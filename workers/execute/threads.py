"""Dramatiq's worker, with threads that take a short way where nothing but the job itself is to be called."""

from collections.abc import Callable
from typing import Any, cast

import dramatiq
import structlog
from dramatiq.worker import WorkerThread

from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.runner import AttemptMessage
from callboard.workers.execute.worker_broker import OneConsumer, WorkerBroker
from callboard.workers.fetch.work_queue import WorkQueue

log = structlog.get_logger(__name__)


class JobWorker(dramatiq.Worker):
    """Dramatiq's worker over our work queue.

    run: runs an attempt to its end; end: hears of each that has ended, or was not begun.
    """

    def __init__(
        self,
        broker: WorkerBroker,
        work_queue: WorkQueue,
        run: Callable[[Attempt], object],
        end: Callable[[Attempt], object],
        *,
        threads: int,
        timeout: int,
    ) -> None:
        super().__init__(broker, worker_threads=threads, worker_timeout=timeout)
        self.work_queue = cast("Any", work_queue)
        self.consumers = OneConsumer()
        self._of_threads = broker, run, end

    def _add_worker(self) -> None:
        thread = JobThread(self, *self._of_threads)
        thread.start()
        self.workers.append(thread)


class JobThread(WorkerThread):
    """Runs attempts. One that middleware watches, or from which something follows, goes Dramatiq's own way."""

    def __init__(
        self,
        worker: JobWorker,
        broker: WorkerBroker,
        run: Callable[[Attempt], object],
        end: Callable[[Attempt], object],
    ) -> None:
        super().__init__(
            broker=broker,
            consumers=worker.consumers,
            work_queue=worker.work_queue,
            worker_timeout=worker.worker_timeout,
        )
        self._concern = broker.around.concern
        self._run = run
        self._end = end

    def process_message(self, message: Any) -> None:
        """Run an attempt, which is what the work queue holds, and pass it on."""
        attempt: Attempt = message
        if self._concern(attempt):
            super().process_message(AttemptMessage(attempt))
            return
        try:
            self._run(attempt)
            attempt.value = None
        except Exception:  # not the job's own: the thread must live, and the attempt ends as failed
            log.exception("job.not_run", job_id=str(attempt.job.id))
        finally:
            self._end(attempt)
