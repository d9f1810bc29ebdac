"""The worker's options on the command line, and what `--reload` watches."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from callboard.cli.main import cli
from callboard.cli.reloading import watched
from callboard.config.settings import load_settings
from callboard.jobs.errors import InvalidInput


def test_options_of_the_command_override_the_environment(tmp_path):
    env = {"CALLBOARD_THREADS": "3", "CALLBOARD_QUEUES": "mail"}
    settings = load_settings(env, tmp_path, {"threads": 5, "queues": "a,b"})
    assert (settings.threads, settings.queues) == (5, ("a", "b"))
    assert settings.source("threads") == "command line"
    assert load_settings(env, tmp_path, {}).threads == 3


@pytest.mark.parametrize(
    ("key", "value"), [("threads", 0), ("processes", 257), ("slots", -1), ("queues", "a b!")]
)
def test_a_bad_option_is_named(tmp_path, key, value):
    with pytest.raises(InvalidInput, match=f"^--{key}"):
        load_settings({}, tmp_path, {key: value})


def test_without_watchfiles_reload_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    outcome = CliRunner().invoke(cli, ["run", "worker", "--reload"])
    assert outcome.exit_code == 7
    assert "pip install 'callboard[reload]'" in outcome.stderr


def test_the_folders_of_the_modules_packages_are_watched(tmp_path, monkeypatch):
    (tmp_path / "src" / "shop" / "mail").mkdir(parents=True)
    (tmp_path / "src" / "shop" / "__init__.py").touch()
    (tmp_path / "single.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    assert watched(["shop.mail.jobs", "shop.jobs", "single"], tmp_path) == [
        tmp_path / "src" / "shop",
        tmp_path,
    ]
    assert watched(["nowhere_at_all"], tmp_path) == [tmp_path]
    assert watched([], Path("/x")) == [Path("/x")]
