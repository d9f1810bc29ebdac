"""`callboard init` in projects of several layouts."""

import subprocess
import sys
import tomllib

import pytest


@pytest.mark.parametrize(
    ("present", "module", "path"),
    [
        ([], "jobs", "jobs.py"),
        (["jobs.py"], "callboard_jobs", "callboard_jobs.py"),
        pytest.param(
            ["jobs/__init__.py", "other/__init__.py"],
            "callboard_jobs",
            "callboard_jobs.py",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ["shop/__init__.py", "tests/__init__.py"], "shop.jobs", "shop/jobs.py", marks=pytest.mark.long
        ),
        pytest.param(
            ["shop/__init__.py", "shop/jobs.py"],
            "shop.callboard_jobs",
            "shop/callboard_jobs.py",
            marks=pytest.mark.long,
        ),
        (["src/shop/__init__.py"], "shop.jobs", "src/shop/jobs.py"),
        pytest.param(
            ["a/__init__.py", "my_shop/__init__.py", "pyproject.toml"],
            "my_shop.jobs",
            "my_shop/jobs.py",
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_written_test_passes_in_each_layout(callboard, tmp_path, monkeypatch, present, module, path):
    for name in present:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('[project]\nname = "my-shop"\n' if name.endswith(".toml") else "")
    monkeypatch.chdir(tmp_path)
    dry = callboard("init", "--dry-run", "--json").json
    assert not (tmp_path / "callboard.toml").exists()
    written = callboard("init", "--json").json
    assert {**written, "dry_run": True} == dry
    assert (written["module"], path in written["written"]) == (module, True)
    assert tomllib.loads((tmp_path / "callboard.toml").read_text()) == {"jobs": module}
    assert all((tmp_path / name).read_text() == "" for name in present if name.endswith(".py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_second_run_writes_nothing_and_says_what_it_kept(callboard, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = callboard("init")
    assert first.err.splitlines()[:3] == ["wrote callboard.toml", "wrote jobs.py", "wrote tests/test_jobs.py"]
    assert first.out.startswith("callboard job enqueue greet")
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    second = callboard("init")
    assert (second.code, second.err) == (0, "kept callboard.toml, which exists\n")
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_variable_that_overrides_the_written_settings_is_named(callboard, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = callboard("init", jobs="bakery.oven")
    assert outcome.code == 0
    assert "CALLBOARD_JOBS=bakery.oven is set here and overrides callboard.toml" in outcome.err


def test_settings_without_jobs_are_kept_and_the_line_to_add_is_told(callboard, tmp_path, monkeypatch):
    (tmp_path / "callboard.toml").write_text("port = 9000\n")
    monkeypatch.chdir(tmp_path)
    outcome = callboard("init")
    assert (tmp_path / "callboard.toml").read_text() == "port = 9000\n"
    assert 'add this line to callboard.toml: jobs = "jobs"' in outcome.err


def test_an_unreadable_file_or_no_free_name_is_an_error_and_nothing_is_written(
    callboard, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("= nothing")
    assert callboard("init").code == 2
    (tmp_path / "pyproject.toml").unlink()
    for name in ("jobs.py", "callboard_jobs.py", "callboard_first_jobs.py"):
        (tmp_path / name).touch()
    assert callboard("init").code == 5
    assert not (tmp_path / "callboard.toml").exists()


def test_a_place_that_cannot_be_written_is_an_error_and_nothing_is_written(callboard, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").touch()
    outcome = callboard("init")
    assert outcome.code == 5
    assert f"cannot write {tmp_path}/tests/test_jobs.py: {tmp_path}/tests is not a folder" in outcome.err
    (tmp_path / "tests").unlink()
    monkeypatch.setattr("callboard.cli.init.os.access", lambda place, _mode: place != tmp_path)
    outcome = callboard("init", "--dry-run")
    assert (outcome.code, f"the folder {tmp_path} is not writable" in outcome.err) == (5, True)
    assert list(tmp_path.iterdir()) == []
