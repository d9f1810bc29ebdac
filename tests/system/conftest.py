"""What the system tests share. `make test-system` installs the Debian packages that they need."""

from collections.abc import Iterator

import pytest

from tests.system.debian_servers import DebianServers, debian_servers


@pytest.fixture(scope="module")
def servers() -> Iterator[DebianServers]:
    """Debian's Postgres and Redis, private to a module of tests."""
    with debian_servers() as started:
        yield started
