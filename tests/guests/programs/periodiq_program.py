"""periodiq: its middleware checks when a periodic job was scheduled. Its scheduler sends the messages."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from periodiq import PeriodiqMiddleware, cron

broker = RedisBroker(url="redis://127.0.0.1:1/0")  # the broker's line
broker.add_middleware(PeriodiqMiddleware(skip_delay=30))
dramatiq.set_broker(broker)


@dramatiq.actor(periodic=cron("* * * * *"))
def every_minute():
    return "ticked"
