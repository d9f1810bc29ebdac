"""Two brokers, each with its own middleware; one is given to its actors and never set."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware, Retries


class Label(Middleware):
    def __init__(self, label):
        self.label = label

    def before_process_message(self, broker, message):
        message.options["labels"] = [*message.options.get("labels", ()), self.label]

    def after_process_message(self, broker, message, *, result=None, exception=None):
        if exception is not None:
            raise RuntimeError("a hook that fails")


fast = RedisBroker(
    url="redis://127.0.0.1:1/0", middleware=[Retries(max_retries=2, min_backoff=1, max_backoff=2)]
)
slow = StubBroker(middleware=[Label("slow")])
fast.add_middleware(Label("fast"))
dramatiq.set_broker(fast)


@dramatiq.actor
def two_fast():
    raise ValueError("fast")


@dramatiq.actor(broker=slow)
def two_slow():
    raise ValueError("slow")
