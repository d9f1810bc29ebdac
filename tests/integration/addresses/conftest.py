"""What the tests of addresses share: the guarded servers, and an environment without other settings."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.addresses.guarded_servers import GuardedServers, guarded_servers


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedServers]:
    folder = Path(tempfile.mkdtemp(prefix="callboard-addresses-"))
    # root's Postgres runs as nobody
    folder.chmod(0o711)
    try:
        with guarded_servers(folder) as servers:
            yield servers
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings of ours nor of libpq, and an empty working directory and home."""
    for name in os.environ:
        if name.startswith(("CALLBOARD_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
