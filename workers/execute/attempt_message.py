"""The Dramatiq message of an attempt."""

from functools import cached_property
from typing import Any

import dramatiq
import orjson
import structlog
from dramatiq.middleware import MiddlewareError

from callboard.jobs.errors import NotStorable
from callboard.jobs.model.basics.ids import made_at
from callboard.jobs.model.basics.json_values import encode
from callboard.jobs.model.new_job import OPTIONS_LIMIT
from callboard.workers.execute.attempt import Attempt

#: The options that the job's row has elsewhere.
_OF_ROW = ("retries", "traceback", "requeue_timestamp")

log = structlog.get_logger(__name__)


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
        #: Whether the attempt raised an error that its actor expects (`throws`).
        self.threw_expected = False
        self.queue_name = job.queue
        self.actor_name = attempt.definition.message_name
        self.args = tuple(job.args or ())
        self.kwargs = job.kwargs or {}
        self.options = {} if job.options is None else job.options.get("message") or {}
        self._stored = orjson.dumps(self.options) if self.options else b"{}"
        self.message_id = str(job.id)
        if job.attempt > 1:
            self.options = {**self.options, "retries": job.attempt - 1}

    def changed_options(self) -> bytes | None:
        """Return the options as JSON if hooks have changed them; None if not. What JSON cannot hold is left
        out.
        """
        kept: dict[str, Any] = {}
        for name, value in self.options.items():
            if name in _OF_ROW:
                continue
            try:
                kept[name] = orjson.loads(encode(value, limit=OPTIONS_LIMIT, what=name, text_keys=True))
            except NotStorable as error:
                fields = self.attempt.job.log_fields
                log.warning("message.option_not_kept", **fields, option=name, reason=error.message)
        changed = orjson.dumps(kept)
        return None if changed == self._stored or len(changed) > OPTIONS_LIMIT else changed

    @cached_property
    def _message(self) -> dramatiq.Message[Any]:  # type: ignore[override]
        job = self.attempt.job
        return dramatiq.Message(
            queue_name=job.queue,
            actor_name=self.actor_name,
            args=self.args,
            kwargs=self.kwargs,
            options=self.options,
            message_id=self.message_id,
            message_timestamp=made_at(job.id),
        )
