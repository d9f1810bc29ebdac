"""A feeder and a worker, for tests that run rounds and claims themselves."""

from collections.abc import Iterator

import pytest

from callboard.jobs.platform import Platform
from callboard.scheduler.feeder import Feeder
from tests.integration.core.factories import Execution, FakeClock, execution


@pytest.fixture
def feeder(platform: Platform) -> Feeder:
    # The turns of the keys begin anew.
    platform.grants._memory.clear()
    return Feeder(platform, FakeClock())


@pytest.fixture
def worker(platform: Platform) -> Iterator[Execution]:
    with execution(platform) as made:
        yield made
