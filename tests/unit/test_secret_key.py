"""The secret key: given, or made once for a machine of its own."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from callboard.config.embedded import secret_key
from callboard.config.settings import Settings, load_settings
from callboard.jobs.errors import InvalidInput


def settings(folder, **env: str) -> Settings:
    return load_settings({f"CALLBOARD_{name}": value for name, value in env.items()}, folder)


def test_the_setting_is_used_when_there_is_one(tmp_path):
    assert secret_key(settings(tmp_path, SECRET_KEY="k" * 32)) == "k" * 32
    assert not (tmp_path / ".callboard").exists()


def test_with_a_database_of_ones_own_it_is_required(tmp_path):
    with pytest.raises(InvalidInput, match="CALLBOARD_SECRET_KEY is required"):
        secret_key(settings(tmp_path, DATABASE_URL="postgresql://h/d"))


def test_with_the_embedded_database_it_is_made_once_and_closed_to_others(tmp_path):
    first = secret_key(settings(tmp_path))
    file = tmp_path / ".callboard" / "secret.key"
    assert len(first) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret_key(settings(tmp_path)) == first
    assert sorted(path.name for path in file.parent.iterdir()) == [".gitignore", "secret.key"]


def test_many_that_make_it_at_once_get_the_same(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: secret_key(settings(tmp_path)), range(32)))) == 1


def test_an_empty_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / ".callboard").mkdir()
    (tmp_path / ".callboard" / "secret.key").touch()
    with pytest.raises(InvalidInput, match=r"secret\.key is empty"):
        secret_key(settings(tmp_path))
