"""The Dramatiq message of an attempt."""

from functools import cached_property
from typing import Any

import dramatiq
from dramatiq.middleware import MiddlewareError

from callboard.jobs.model.basics.ids import made_at
from callboard.workers.execute.attempt import Attempt


class AttemptMessage(dramatiq.MessageProxy):
    """A message that carries its attempt through Dramatiq's machinery.

    The attributes that Dramatiq reads are set on the proxy itself, which is cheaper than to build the message
    for them.
    """

    def __init__(self, attempt: Attempt) -> None:
        job = attempt.job
        self.failed = False
        self._exception = None
        self.attempt = attempt
        #: The error by which middleware refused to run the message.
        self.refusal: MiddlewareError | None = None
        self.queue_name = job.queue
        self.actor_name = job.name
        self.args = tuple(job.args or ())
        self.kwargs = job.kwargs or {}
        self.options = {} if job.options is None else job.options.get("message") or {}
        self.message_id = str(job.id)
        if job.attempt > 1:
            self.options = {**self.options, "retries": job.attempt - 1}

    @cached_property
    def _message(self) -> dramatiq.Message[Any]:  # type: ignore[override]
        job = self.attempt.job
        return dramatiq.Message(
            queue_name=job.queue,
            actor_name=job.name,
            args=self.args,
            kwargs=self.kwargs,
            options=self.options,
            message_id=self.message_id,
            message_timestamp=made_at(job.id),
        )
