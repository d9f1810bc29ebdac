"""dramatiq-workflow: a chain with a group inside."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq_workflow import WorkflowMiddleware

from callboard import Client
from callboard.jobs.dramatiq.rate_limits import PostgresLimits

client = Client.from_env()
broker = RedisBroker(url="redis://127.0.0.1:1/0")  # the broker's line
broker.add_middleware(WorkflowMiddleware(PostgresLimits(lambda: client.platform)))
dramatiq.set_broker(broker)


@dramatiq.actor
def flow_step(path, text):
    with open(path, "a") as file:
        file.write(text)
