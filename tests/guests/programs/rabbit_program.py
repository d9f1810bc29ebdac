"""A program with a RabbitMQ broker, a library of results and a group."""

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import StubBackend as Limits
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

broker = RabbitmqBroker(url="amqp://guest:guest@127.0.0.1:1")
broker.add_middleware(Results(backend=StubBackend(), store_results=True))
broker.add_middleware(GroupCallbacks(Limits()))
dramatiq.set_broker(broker)


@dramatiq.actor
def rabbit_add(x, y):
    return x + y


@dramatiq.actor
def rabbit_all_done(label):
    return label


@dramatiq.actor
def rabbit_starts():
    group = dramatiq.group([rabbit_add.message(1, n) for n in range(3)])
    done = rabbit_all_done.message("all")
    group.add_completion_callback(done)
    group.run()
    return [list(group.get_results(block=True)), done.get_result(block=True)]
