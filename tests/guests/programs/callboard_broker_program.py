"""A module for senders and workers alike, with the documented line; hooks of async jobs see their thread."""

import threading

import dramatiq
from dramatiq.middleware import AsyncIO, CurrentMessage, Middleware, Retries, TimeLimit

from callboard.dramatiq import CallboardBroker


class Timing(Middleware):
    state = threading.local()

    def before_process_message(self, broker, message):
        self.state.actor = message.actor_name

    def after_process_message(self, broker, message, *, result=None, exception=None):
        if self.state.actor != message.actor_name:
            message.fail()


broker = CallboardBroker(
    middleware=[TimeLimit(time_limit=500), Retries(max_retries=0), CurrentMessage(), AsyncIO(), Timing()]
)
dramatiq.set_broker(broker)


@dramatiq.actor
async def shared_async(n):
    return [n, CurrentMessage.get_current_message().message_id]


@dramatiq.actor
def shared_slow():
    while True:
        pass
