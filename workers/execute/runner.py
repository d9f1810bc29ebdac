"""Running a sync attempt: what Dramatiq's worker threads call in an actor's place."""

from functools import cached_property
from threading import Event
from typing import Any, Final

import dramatiq
from dramatiq.middleware import MiddlewareError

from callboard.jobs.attempts.context import enter, leave
from callboard.jobs.model.ids import made_at
from callboard.workers.board import PutOnBoard
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.forks import leave_copy
from callboard.workers.execute.hooks import CurrentAttempt
from callboard.workers.execute.interrupts import Guard, JobInterrupt


class AttemptMessage(dramatiq.MessageProxy):
    """A message that carries its attempt through Dramatiq's machinery.

    What Dramatiq asks a message for is set on the proxy itself: by way of the message it would cost more.
    """

    def __init__(self, attempt: Attempt) -> None:
        job = attempt.job
        self.failed = False
        self._exception = None
        self.attempt = attempt
        #: What middleware said against running it.
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


class Runner:
    """Stands in an actor's place: runs the attempt, keeps its outcome, returns nothing.

    What the job raised is raised again, for middleware to see.
    """

    #: First come, first run: the order was decided by the claim.
    priority: Final = 0

    def __init__(
        self,
        actor: dramatiq.Actor[..., Any],
        current: CurrentAttempt,
        put_on_board: PutOnBoard,
        draining: Event,
    ) -> None:
        self.actor_name = actor.actor_name
        self.queue_name = actor.queue_name
        self.options = actor.options
        self._current = current
        self._put_on_board = put_on_board
        self._draining = draining

    def __call__(self, *_args: Any, **_kwargs: Any) -> None:
        attempt = self._current.take()
        if attempt is None:
            raise RuntimeError("a runner is called by the worker's threads alone")
        error = run(attempt, self._put_on_board, self._draining)
        if error is not None:
            raise error


def run(attempt: Attempt, put_on_board: PutOnBoard, draining: Event) -> BaseException | None:
    """Run the attempt to its end, in this thread; returns what it raised."""
    if draining.is_set():
        attempt.unstarted = True
        return None
    attempt.begin(put_on_board)
    guard = Guard()
    try:
        try:
            value = _call(attempt, guard)
        except JobInterrupt:
            # It may have struck while the guard was being disarmed.
            guard.disarm()
            raise
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is how its attempt ended
        leave_copy(error)
        attempt.raised(error)
        return error
    leave_copy()
    attempt.returned(value)
    return None


def _call(attempt: Attempt, guard: Guard) -> Any:
    args, kwargs = attempt.arguments()
    token = enter(attempt.running)
    try:
        attempt.interrupt = guard.send
        with guard:
            return attempt.definition.call(*args, **kwargs)
    finally:
        attempt.interrupt = None
        leave(token)
