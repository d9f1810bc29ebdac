"""What the end-to-end tests share."""

from collections.abc import Iterator

import pytest

from callboard.jobs.platform import Platform
from tests.e2e.stage import Stage, staged


@pytest.fixture
def stage(platform: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    """Empty tables, and the means to start processes on them; all of them are gone at the end."""
    with staged(platform, database_url, redis_url) as made:
        yield made
