"""A module as programs of Dramatiq's have them: it imports nothing of ours but an outcome.

Copied to where the workers run.
"""

import asyncio
import time

import dramatiq
from dramatiq.middleware import CurrentMessage, Shutdown, TimeLimitExceeded
from dramatiq_witness import note

from callboard import Fail

dramatiq.get_broker().add_middleware(CurrentMessage())


@dramatiq.actor(witnessed=True)
def add(x, y):
    return x + y


@dramatiq.actor(queue_name="async")
async def add_async(x, y):
    await asyncio.sleep(0)
    message = CurrentMessage.get_current_message()
    assert message is not None
    assert message.actor_name == "add_async"
    return x + y


@dramatiq.actor
def whoami():
    message = CurrentMessage.get_current_message()
    return {"options": message.options, "id": message.message_id, "queue": message.queue_name}


@dramatiq.actor
def told(*data):
    note("told", data[0]["actor_name"], data[0]["options"].get("retries"), data[1])


@dramatiq.actor(max_retries=1, min_backoff=10, max_backoff=20, on_failure="told", on_retry_exhausted="told")
def fails():
    raise ValueError("no")


@dramatiq.actor(max_retries=3)
def retries_when_asked():
    message = CurrentMessage.get_current_message()
    if message.options.get("retries", 0) < 2:
        raise dramatiq.Retry("again", delay=50)
    return message.options["retries"]


@dramatiq.actor(max_retries=3, time_limit=300, throws=(TimeLimitExceeded,))
def too_slow():
    try:
        time.sleep(0.01)
        while True:
            time.sleep(0.01)
    except TimeLimitExceeded:
        note("interrupted")
        raise


@dramatiq.actor(notify_shutdown=True, max_retries=0)
def waits_for_the_end():
    try:
        note("waiting")
        while True:
            time.sleep(0.01)
    except Shutdown:
        note("shutdown")


class Greeter(dramatiq.GenericActor):
    class Meta:
        queue_name = "default"

    def perform(self, name):
        self.logger.info("greeting")
        return f"hello {name}"


@dramatiq.actor
def stubborn_failure():
    raise ValueError("still no")


@dramatiq.actor(on_failure="told")
def gives_up():
    return Fail("for good")
