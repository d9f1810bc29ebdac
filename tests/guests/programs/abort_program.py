"""dramatiq-abort: a job that waits is skipped, a job that runs is interrupted."""

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq_abort import Abort, Abortable
from dramatiq_abort.backends import RedisBackend

broker = RedisBroker(url="redis://127.0.0.1:1/0")  # the broker's line
broker.add_middleware(Abortable(backend=RedisBackend.from_url(os.environ["CALLBOARD_REDIS_URL"])))
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=0)
def abort_long():
    try:
        while True:
            time.sleep(0.01)
    except Abort:
        return "aborted"
