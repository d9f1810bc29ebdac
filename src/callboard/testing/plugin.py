"""The pytest plugin: the fixtures `enqueued` and `drain`.

It imports nothing of Callboard until a test uses a fixture, because pytest loads it in every project.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from callboard.config.embedded import ServerUrls
    from callboard.jobs.platform import Platform
    from callboard.testing.draining import Drain
    from callboard.testing.recording import Enqueued

_FOLDER = pytest.StashKey[Path]()
_IN_WORKER = "callboard_folder"


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder of the run's embedded servers. The first test that needs them makes it."""
    given = getattr(config, "workerinput", {}).get(_IN_WORKER)
    name = f"callboard-run-{os.getpid()}-{os.urandom(4).hex()}"
    config.stash[_FOLDER] = Path(given or Path(tempfile.gettempdir()) / name)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give the processes of pytest-xdist the same folder: they share the servers."""
    node.workerinput[_IN_WORKER] = str(node.config.stash[_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop servers that a killed process of the run left behind."""
    folder = config.stash.get(_FOLDER, None)
    if hasattr(config, "workerinput") or folder is None or not folder.exists():
        return
    from callboard.testing.servers_of_run import stop_servers

    stop_servers(folder)


@pytest.fixture
def enqueued() -> "Iterator[Enqueued]":
    """Record what the code under test enqueues, without servers."""
    from callboard.testing.recording import Enqueued

    with Enqueued() as recorded:
        yield recorded


@pytest.fixture(scope="session")
def callboard_servers(pytestconfig: pytest.Config) -> "Iterator[ServerUrls]":
    """The servers of this run: those of the settings, or embedded ones. Override it to use others."""
    from callboard.testing.servers_of_run import run_servers

    with run_servers(pytestconfig.stash[_FOLDER]) as urls:
        yield urls


@pytest.fixture(scope="session")
def callboard_platform(callboard_servers: "ServerUrls") -> "Iterator[Platform]":
    """An own schema of this process, with all tables."""
    from callboard.testing.servers_of_run import migrated_platform

    with migrated_platform(callboard_servers, os.environ.get("PYTEST_XDIST_WORKER", "main")) as platform:
        yield platform


@pytest.fixture
def drain(callboard_platform: "Platform") -> "Iterator[Drain]":
    """Run due jobs against real servers. Each test begins with empty tables."""
    from callboard.testing.draining import Drain

    with Drain(callboard_platform) as drained:
        yield drained
