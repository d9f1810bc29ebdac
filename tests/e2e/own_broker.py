"""A program as public ones are: it makes a broker of its own. The server of that broker does not exist."""

import os
from pathlib import Path

import dramatiq
from dramatiq.asyncio import async_to_sync
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import (
    AgeLimit,
    AsyncIO,
    Callbacks,
    CurrentMessage,
    Middleware,
    Pipelines,
    Retries,
    ShutdownNotifications,
    TimeLimit,
)
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend


def note(*words: object) -> None:
    """One line, whole or not at all."""
    path = Path(os.environ["CALLBOARD_TEST_LEDGER"]).with_name("notes")
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (" ".join(map(str, words)) + "\n").encode())
    os.close(file)


class Counting(Middleware):
    """Changes the options of a message, and hears everything."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_enqueue(self, broker, message, delay):
        note("before_enqueue", message.actor_name, message.message_id)

    def after_enqueue(self, broker, message, delay):
        note("after_enqueue", message.actor_name, message.message_id)
        if message.options.get("retries"):
            note("sent again", *sorted(message.options), delay)

    def after_nack(self, broker, message):
        note("nack", message.actor_name, message.options.get("retries"))

    def before_delay_message(self, broker, message):
        raise AssertionError("there are no delay queues")

    def before_process_message(self, broker, message):
        assert type(broker).__name__ == "RedisBroker"
        tries = message.options.setdefault("tries", {"made": 0})
        tries["made"] += self.step


class Loop(AsyncIO):
    def before_worker_boot(self, broker, worker):
        super().before_worker_boot(broker, worker)
        note("loop boots")


class StubbornRetries(Retries):
    def after_process_message(self, broker, message, *, result=None, exception=None):
        raise AssertionError("Callboard retries")


nowhere = "redis://127.0.0.1:1/0"
backend = RedisBackend(url=nowhere)
broker = RedisBroker(
    url=nowhere,
    middleware=[
        AgeLimit(), TimeLimit(time_limit=1_000), ShutdownNotifications(notify_shutdown=True), Callbacks(),
        Pipelines(), StubbornRetries(max_retries=1, min_backoff=10, max_backoff=20), Results(backend=backend),
    ],
)  # fmt: skip
dramatiq.set_broker(broker)
broker.add_middleware(Counting(step=2), before=Results)
broker.add_middleware(CurrentMessage())
broker.add_middleware(Loop())


def options() -> dict:
    return dict(CurrentMessage.get_current_message().options)


@dramatiq.actor(store_results=True, result_ttl=5_000)
def own_add(x, y):
    return x + y


@dramatiq.actor
def own_fails():
    note("tries", options()["tries"]["made"])
    raise ValueError("no")


@dramatiq.actor
def own_slow():
    while True:
        pass


@dramatiq.actor
def own_keys(value):
    return value


@dramatiq.actor
def own_sender():
    message = own_add.message(1, 2)
    sent = broker.enqueue(message)
    assert sent.message_id == message.message_id
    line = own_add.message(1, 1) | own_add.message(5)
    line.run()
    group = dramatiq.group([own_add.message(2, 2), own_add.message(3, 3)])
    group.run()
    return [
        own_add.send(7, 8).get_result(block=True),
        line.get_result(block=True),
        list(group.get_results(block=True)),
        sent.get_result(backend=backend, block=True),
        sent.message_id,
    ]


@dramatiq.actor
def own_late_broker(x):
    backend = RedisBackend(url=nowhere)
    late = RedisBroker(url=nowhere)
    late.add_middleware(Results(backend=backend))
    return late.enqueue(own_add.message(x, x)).get_result(backend=backend, block=True)


@dramatiq.actor(actor_name="own name with spaces")
def own_name():
    pass


@dramatiq.actor
async def own_async(x):
    return [x, CurrentMessage.get_current_message().actor_name]


@dramatiq.actor
def own_calls_async():
    async def double(x):
        return 2 * x

    return [own_async(1)[0], async_to_sync(double)(4)]


class Loud(dramatiq.Actor):
    def __call__(self, *args, **kwargs):
        return f"{super().__call__(*args, **kwargs)}!"


@dramatiq.actor(actor_class=Loud)
def own_loud(word):
    return word


@dramatiq.actor(actor_class=Loud)
async def own_async_loud(word):
    return word
