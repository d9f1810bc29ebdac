"""Direct calls of async actors work in a program that has no worker."""

import dramatiq
import pytest
from dramatiq.asyncio import async_to_sync, get_event_loop_thread, set_event_loop_thread

from callboard.jobs.dramatiq.broker import CallboardBroker


@pytest.fixture
def broker():
    before = get_event_loop_thread()
    set_event_loop_thread(None)
    yield CallboardBroker(lambda: pytest.fail("nothing connects here"), middleware=[])
    set_event_loop_thread(before)


def test_an_async_actor_that_is_called_returns_its_result_and_raises_its_error(broker):
    @dramatiq.actor(broker=broker)
    async def called_directly(x):
        if x is None:
            raise ValueError("nothing")
        return 2 * x

    async def triple(x):
        return 3 * x

    assert called_directly(2) == 4
    assert async_to_sync(triple)(2) == 6
    with pytest.raises(ValueError, match="nothing"):
        called_directly(None)
