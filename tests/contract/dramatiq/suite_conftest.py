"""The fixtures that Dramatiq's own tests ask for, with ours behind them.

Copied beside those tests as their conftest.py.
"""

import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import dramatiq
import pytest
from dramatiq.middleware import Middleware

from callboard.jobs.dramatiq.rate_limits import PostgresLimits
from callboard.jobs.dramatiq.results import PostgresResults
from tests.conftest import *  # noqa: F403 - the servers and the database of a run
from tests.contract.dramatiq import stand_in

# test_broker.py imports it for two tests that are left out; its driver is not installed here.
sys.modules["dramatiq.brokers.rabbitmq"] = SimpleNamespace(RabbitmqBroker=None)

#: These tests look at the exception or the log line of Dramatiq's own thread. An attempt takes that path only
#: when middleware has a hook for it; otherwise our threads run it.
ON_DRAMATIQS_PATH = {
    "test_actors_can_be_assigned_time_limits",
    "test_workers_log_rate_limit_exceeded_errors_differently",
}
LEFT_OUT = tomllib.loads((Path(stand_in.__file__).with_name("left_out.toml")).read_text())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    named = {item: item.nodeid.rpartition("/")[2].partition("[")[0] for item in items}
    files = {name.partition("::")[0] for name in named.values()}
    gone = {name for name in LEFT_OUT["tests"] if name.partition("::")[0] in files} - set(named.values())
    if gone:
        raise pytest.UsageError(f"left_out.toml names tests that there are not: {', '.join(sorted(gone))}")
    left = [item for item in items if named[item] in LEFT_OUT["tests"]]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


class Listener(Middleware):
    """Middleware with a hook that does nothing."""

    def before_nack(self, broker, message):
        pass


@pytest.fixture
def stub_broker(platform, monkeypatch, request):
    broker = stand_in.StandInBroker(platform)
    if request.node.name in ON_DRAMATIQS_PATH:
        broker.add_middleware(Listener())
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    with stand_in.feeding(platform):
        yield broker


@pytest.fixture
def stub_worker(stub_broker):
    with stand_in.working(stub_broker) as worker:
        yield worker


@pytest.fixture
def result_backend(platform):
    return PostgresResults(lambda: platform)


@pytest.fixture
def redis_result_backend(result_backend):
    return result_backend


@pytest.fixture
def rate_limiter_backend(platform):
    return PostgresLimits(lambda: platform)
