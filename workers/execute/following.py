"""The jobs that follow from an attempt's end: callbacks, the rest of a pipeline, a group's completion.

The rules are those of Dramatiq 2.2's middleware. The jobs are enqueued in the transaction that writes the
end.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import dramatiq
import structlog
from dramatiq import Message
from dramatiq.common import current_millis

from callboard.jobs.attempts.error_text import LONGEST_CLASS
from callboard.jobs.attempts.users_code import UsersCodeFailed, bounded
from callboard.jobs.attempts.verdict import TimedOut
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.model.basics.json_values import storable
from callboard.jobs.model.basics.plain_text import class_path, readable, shortened
from callboard.jobs.model.basics.stored_json import parsed
from callboard.jobs.model.dispatch import Dispatch
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.job import DEFAULT_QUEUE
from callboard.jobs.model.outcomes import Outcome
from callboard.jobs.model.states import Verb
from callboard.workers.execute.attempt_message import AttemptMessage

#: Dramatiq's name for the error of an attempt that took too long.
_TIME_LIMIT = "TimeLimitExceeded"
_FAILED: Final = frozenset({Verb.RETRY, Verb.FAIL})
_MILLISECOND: Final = timedelta(milliseconds=1)

log = structlog.get_logger(__name__)


def followers(
    broker: CallboardBroker, message: AttemptMessage, finish: Finish, error: BaseException | None
) -> tuple[Dispatch, ...]:
    """Return the jobs to enqueue with this end; none, with a log line, when the message's options cannot be
    read.
    """
    try:
        request_id = message.attempt.job.request_id
        return tuple(
            one._replace(request_id=request_id) for one in _followers(broker, message, finish, error)
        )
    except BaseException as problem:  # noqa: BLE001
        # The options come from the sender of the message, and middleware is the user's. Neither must keep the
        # attempt from ending.
        log.error(  # noqa: TRY400
            "job.next_jobs_not_enqueued", **message.attempt.job.log_fields, reason=_reason(problem)
        )
        return ()


def note_failure(message: AttemptMessage, finish: Finish, error: BaseException) -> None:
    """Set the options of the message that Dramatiq's Retries sets when an attempt has failed."""
    if finish.verb not in _FAILED:
        return
    throws = _option(message, "throws")
    message.threw_expected = isinstance(throws, type | tuple) and _is_one_of(error, throws)
    if not message.threw_expected:
        message.options |= {
            "retries": message.attempt.job.attempt,
            "traceback": finish.error.traceback if finish.error else "",
            "requeue_timestamp": current_millis(),
        }


def send_again(broker: CallboardBroker, message: AttemptMessage, finish: Finish) -> None:
    """Call the enqueue hooks for a retry, as Dramatiq does, which sends the message again.

    Options that a hook changes are those of the next attempt. A hook that fails does not stop the retry.
    """
    if not (broker.hooks("before_enqueue") or broker.hooks("after_enqueue")):
        return
    delay = (finish.delay or timedelta()) // _MILLISECOND
    again: Message[Any] = message.copy(options={"eta": current_millis() + delay})
    try:
        broker.emit_before("enqueue", again, delay)
        broker.emit_after("enqueue", again, delay)
    except BaseException as problem:  # noqa: BLE001 - middleware is the user's
        log.error(  # noqa: TRY400
            "message.retry_hook_failed", **message.attempt.job.log_fields, reason=_reason(problem)
        )
    message.options = {name: value for name, value in again.options.items() if name != "eta"}


def _reason(problem: BaseException) -> str:
    return f"{class_path(type(problem))}: {readable(problem)}"[:300]


def _followers(
    broker: CallboardBroker, message: AttemptMessage, finish: Finish, error: BaseException | None
) -> Iterator[Dispatch]:
    if finish.verb is Verb.COMPLETE:
        yield from _after_success(broker, message, finish)
    elif finish.verb in _FAILED and error is not None:
        yield from _after_failure(broker, message, finish, error)


def _after_success(broker: CallboardBroker, message: AttemptMessage, finish: Finish) -> Iterator[Dispatch]:
    result = None if finish.result is None else parsed(finish.result)
    target = message.options.get("pipe_target")
    if target is not None:
        following: Message[Any] = Message(**target)
        if not message.attempt.definition.ignores_result(target):
            following = following.copy(args=(*following.args, result))
        yield _sent(broker, following, following.options.get("delay"))
    callback = _option(message, "on_success")
    if callback:
        yield _callback(broker, callback, message.asdict(), result)
    group, callbacks = (message.options.get(f"group_completion_{name}") for name in ("uuid", "callbacks"))
    for last in callbacks or () if group else ():
        yield _sent(broker, Message(**last), None, barrier=group)


def _after_failure(
    broker: CallboardBroker, message: AttemptMessage, finish: Finish, error: BaseException
) -> Iterator[Dispatch]:
    entry = finish.error
    timed_out = entry is not None and entry.error_class == TimedOut.stored_as
    kind = _TIME_LIMIT if timed_out else _bare_name(type(error))
    data = message.asdict()
    expected = message.threw_expected
    exhausted = _option(message, "on_retry_exhausted")
    if exhausted and finish.verb is Verb.FAIL and not expected and not issubclass(type(error), Outcome):
        counts = {
            "retries": message.attempt.job.attempt - 1,
            "max_retries": message.attempt.job.max_attempts - 1,
        }
        yield _callback(broker, exhausted, data, counts)
    callback = _option(message, "on_failure")
    if callback:
        yield _callback(broker, callback, data, {"type": kind, "message": entry.message if entry else ""})


def _bare_name(kind: type[BaseException]) -> str:
    return storable(shortened(class_path(kind).rpartition(".")[2], LONGEST_CLASS), LONGEST_CLASS)


def _is_one_of(error: BaseException, throws: Any) -> bool:
    """Return whether the error is one that the actor expects. The classes may run code of the user's."""
    try:
        return bounded(lambda: isinstance(error, throws), own_thread=True)
    except UsersCodeFailed:
        return False


def _option(message: AttemptMessage, name: str) -> Any:
    return message.options.get(name) or message.attempt.definition.message_options.get(name)


def _callback(broker: CallboardBroker, callback: Any, *args: Any) -> Dispatch:
    """Return the job of a callback, given by name or as an actor. An unknown one is for another worker."""
    name = callback if isinstance(callback, str) else callback.actor_name
    actor = broker.actors.get(name)
    if isinstance(actor, dramatiq.Actor):
        return _sent(broker, actor.message(*args), None)
    message: Message[Any] = Message(
        queue_name=DEFAULT_QUEUE, actor_name=name, args=args, kwargs={}, options={}
    )
    dispatch = _sent(broker, message, None)
    return dispatch._replace(request=dispatch.request.model_copy(update={"queue": None}))


def _sent(
    broker: CallboardBroker, message: Message[Any], delay: Any, *, barrier: str | None = None
) -> Dispatch:
    broker.emit_before("enqueue", message, delay)
    dispatch = broker.dispatch(message, delay, barrier=barrier)
    broker.emit_after("enqueue", message, delay)
    return dispatch
