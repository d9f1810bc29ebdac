"""`callboard init`: write settings, a first job and its test into a project. Nothing is overwritten."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from callboard.cli.console.options import json_option
from callboard.cli.console.output import note, print_json
from callboard.cli.console.text import one_line
from callboard.jobs.errors import Conflict, InvalidInput

_SETTINGS: Final = "callboard.toml"
_PYPROJECT: Final = "pyproject.toml"
#: A package of the project is looked for in these folders.
_SOURCE_FOLDERS: Final = ("src", ".")
#: Folders that are packages, but not the project's program.
_NOT_PROGRAMS: Final = frozenset({"test", "tests", "docs", "examples", "scripts", "benchmarks", "migrations"})
#: The jobs module gets the first of these names that is free.
_MODULES: Final = ("jobs", "callboard_jobs", "callboard_first_jobs")

_SETTINGS_TEXT: Final = """\
# Settings of Callboard. `callboard config` shows all of them. Variables such as CALLBOARD_PORT override them.
jobs = "{module}"
"""
_JOBS_TEXT: Final = '''\
"""Background jobs. Callboard's workers import this module: {settings} names it."""

from callboard import RetryPolicy, job


@job(retry=RetryPolicy(max_attempts=5), timeout="1m")
def greet(name: str, times: int = 1) -> dict[str, str]:
    """Greet somebody. Replace this job by your own."""
    return {{"greeting": " ".join([f"Hello, {{name}}!"] * times)}}
'''
_TEST_TEXT: Final = '''\
"""Tests of the jobs. No server is needed."""
{path}
from callboard.testing import run
from {module} import greet


def test_greet_repeats_the_greeting() -> None:
    attempt = run(greet, "Ada", times=2)
    assert attempt.outcome == "succeeded"
    assert attempt.result == {{"greeting": "Hello, Ada! Hello, Ada!"}}
'''
_PATH_TEXT: Final = """
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]{folder}))
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `init` writes: the text of each file, by its path in the project's folder.

    kept: files that exist and stay as they are.
    """

    module: str
    files: Mapping[str, str]
    kept: tuple[str, ...]


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show which files would be written.")
@json_option
def init(*, dry_run: bool, as_json: bool) -> None:
    """Write settings, a first job and its test into this project.

    Writes callboard.toml, a module with a job, and a test of that job. It finds the
    package of the project and picks free names. Existing files are kept.
    """
    folder = Path.cwd()
    made = plan(folder)
    for path in made.files:
        _check_place(folder / path)
    if not dry_run:
        for path, text in made.files.items():
            _write(folder / path, text)
    if as_json:
        print_json(
            {"module": made.module, "written": list(made.files), "kept": list(made.kept), "dry_run": dry_run}
        )
        return
    for path in made.files:
        note(f"{'would write' if dry_run else 'wrote'} {path}")
    for path in made.kept:
        note(f"kept {path}, which exists")
    if made.files and _SETTINGS in made.kept:
        note(f'add this line to {_SETTINGS}: jobs = "{made.module}"')
    named = os.environ.get("CALLBOARD_JOBS")
    if made.files and named:
        note(f"CALLBOARD_JOBS={one_line(named)} is set here and overrides {_SETTINGS}: unset CALLBOARD_JOBS")
    if made.files and not dry_run:
        note("start the platform with 'callboard up'; then, in another terminal:")
        click.echo("""callboard job enqueue greet --args '{"name": "Ada"}' --wait""")


def plan(folder: Path) -> Plan:
    """Return what to write into this project. Raise InvalidInput if a file of the project is unreadable."""
    has_settings = (folder / _SETTINGS).exists()
    if has_settings and _read_toml(folder / _SETTINGS).get("jobs"):
        # The project has its jobs. No worker would import another module.
        return Plan("", {}, (_SETTINGS,))
    source, package = _program(folder)
    place = folder / source / package if package else folder
    taken = [name for name in _MODULES if (place / f"{name}.py").exists() or (place / name).exists()]
    free = next((name for name in _MODULES if name not in taken), None)
    if free is None:
        raise Conflict(f"{place} has {', '.join(_MODULES)} already: name your modules in {_SETTINGS}")
    module = f"{package}.{free}" if package else free
    files = {} if has_settings else {_SETTINGS: _SETTINGS_TEXT.format(module=module)}
    files |= {
        (place / f"{free}.py").relative_to(folder).as_posix(): _JOBS_TEXT.format(settings=_SETTINGS),
    }
    test = f"tests/test_{module.replace('.', '_')}.py"
    kept = [_SETTINGS] if has_settings else []
    kept += [(place / name).relative_to(folder).as_posix() + ".py" for name in taken]
    if (folder / test).exists():
        kept.append(test)
    else:
        inner = f' / "{source}"' if source != "." else ""
        files[test] = _TEST_TEXT.format(module=module, path=_PATH_TEXT.format(folder=inner))
    return Plan(module, files, tuple(kept))


def _program(folder: Path) -> tuple[str, str]:
    """Return the folder of the sources and the project's package in it; an empty name without a package."""
    wanted = _project_name(folder)
    for source in _SOURCE_FOLDERS:
        names = sorted(
            path.parent.name
            for path in (folder / source).glob("*/__init__.py")
            if path.parent.name.isidentifier() and path.parent.name not in _NOT_PROGRAMS
        )
        if wanted in names:
            return source, wanted
        if len(names) == 1:
            return source, names[0]
    return ".", ""


def _project_name(folder: Path) -> str:
    path = folder / _PYPROJECT
    project = _read_toml(path).get("project") if path.exists() else None
    name = project.get("name") if isinstance(project, dict) else None
    return re.sub(r"[-.]+", "_", name).lower() if isinstance(name, str) else ""


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {one_line(str(error))}") from None


def _check_place(path: Path) -> None:
    """Raise Conflict unless the file can be created. All are checked first: half a project would confuse."""
    place = next(parent for parent in path.parents if parent.exists())
    if not place.is_dir():
        raise Conflict(f"cannot write {path}: {place} is not a folder; nothing was written")
    if not os.access(place, os.W_OK | os.X_OK):
        raise Conflict(f"cannot write {path}: the folder {place} is not writable; nothing was written")


def _write(path: Path, text: str) -> None:
    """Write a new file; raise Conflict if it has appeared meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Conflict(f"{path} exists; nothing of it was changed") from None
