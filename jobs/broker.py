"""The Dramatiq broker of programs that enqueue: `.send()` commits a job to Postgres.

The worker's broker (workers/broker.py) is this one with a consuming half.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import dramatiq
from dramatiq import Message
from dramatiq.middleware import Middleware

from jobs.context import current_source
from jobs.records import Receipt, Source
from jobs.requests import JobRequest, job_request

Accept = Callable[[JobRequest, Source], Receipt]

#: The one queue that Dramatiq's machinery sees; which queues there are is ours to know.
VIRTUAL_QUEUE: Final = "callboard"

#: Options that Dramatiq's own middleware would declare; a module that uses them must import unchanged.
_ACTOR_OPTIONS: Final = {
    "max_retries", "min_backoff", "max_backoff", "retry_when", "throws", "time_limit", "max_age",
    "on_success", "on_failure", "store_results", "result_ttl", "notify_shutdown",
    "pipe_ignore", "pipe_target", "on_retry_exhausted", "jitter",
}  # fmt: skip


class CallboardBroker(dramatiq.Broker):
    """Accepts messages as jobs. Without `accept`, the first message connects as `Client.from_env()` does."""

    def __init__(self, accept: Accept | None = None, *, middleware: list[Middleware] | None = None) -> None:
        super().__init__(middleware=middleware or [])
        self.actor_options |= _ACTOR_OPTIONS
        self.queues: dict[str, None] = {}
        self._accept = accept

    def declare_queue(self, queue_name: str) -> None:  # noqa: ARG002
        """Note a queue; Dramatiq's worker hears of one virtual queue, once, whatever there are."""
        if not self.queues:
            self.emit_before("declare_queue", VIRTUAL_QUEUE)
            self.queues[VIRTUAL_QUEUE] = None
            self.emit_after("declare_queue", VIRTUAL_QUEUE)

    def accept(self, request: JobRequest) -> Receipt:
        """Commit a job; its source is the running job, if there is one."""
        if self._accept is None:
            from jobs.client import Client

            self._accept = Client.from_env().accept
        return self._accept(request, current_source())

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Commit the message as a job; the message that is returned has the job's id."""
        self.emit_before("enqueue", message, delay)
        receipt = self.accept(_request(message, delay))
        accepted = message.copy(message_id=str(receipt.id))
        self.emit_after("enqueue", accepted, delay)
        return accepted


def _request(message: Message[Any], delay: int | None) -> JobRequest:
    values: dict[str, Any] = {
        "name": message.actor_name,
        "args": list(message.args),
        "kwargs": message.kwargs,
        "queue": message.queue_name,
    }
    if delay is not None:
        values["delay"] = timedelta(milliseconds=delay)
    retries, limit = message.options.get("max_retries"), message.options.get("time_limit")
    if isinstance(retries, int):
        values["max_attempts"] = retries + 1
    if isinstance(limit, int):
        values["timeout"] = timedelta(milliseconds=limit)
    # A plain actor may be sent before any worker has published it, as with every other broker.
    values["unchecked"] = True
    return job_request(values)
