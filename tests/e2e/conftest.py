"""What the end-to-end tests share."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from callboard.jobs.definitions.own_code import OWN_CODE
from callboard.jobs.platform import Platform
from tests.e2e.limit_show import Show
from tests.e2e.stage import Stage, staged


@pytest.fixture(autouse=True)
def _no_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs run in other processes. Jobs of the same name in other modules of tests must not count."""
    monkeypatch.setattr(OWN_CODE, "holder", SimpleNamespace(global_broker=None))


@pytest.fixture
def stage(platform: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    """Empty tables, and the means to start processes on them; all of them are gone at the end."""
    with staged(platform, database_url, redis_url) as made:
        yield made


@pytest.fixture
def show(stage: Stage, redis_url: str) -> Callable[..., Show]:
    """What starts a limited queue with these limits."""
    return lambda **limits: Show(stage, redis_url, **limits)
