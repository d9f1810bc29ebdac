"""The fixtures of `callboard.testing`, on the servers of this run."""

import pytest

from callboard.config.embedded import ServerUrls


@pytest.fixture(scope="session")
def callboard_servers(server_urls: ServerUrls) -> ServerUrls:
    return server_urls
