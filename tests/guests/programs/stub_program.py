"""A program whose module has a stub broker, as under test; class-based actors, pipelines and rate limits."""

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import StubBackend

broker = StubBroker()
dramatiq.set_broker(broker)
LIMIT = ConcurrentRateLimiter(StubBackend(), "till", limit=1)


class StubDouble(dramatiq.GenericActor):
    class Meta:
        actor_name = "stub_double"

    def perform(self, n):
        with LIMIT.acquire(raise_on_failure=False):
            return 2 * n


@dramatiq.actor
def stub_line(n):
    line = StubDouble.message(n) | StubDouble.message()
    line.run()
    return line.get_result(block=True)
