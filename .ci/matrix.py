"""Run the unit and integration tests on each supported Python, and once with Debian's Postgres and Redis.

Each Python gets a virtual environment of its own from requirements.lock. A Python that is missing on this
machine is named and skipped. The exit code is 1 if tests failed anywhere.
"""
# ruff: noqa: INP001, T201, S603 - a script

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parents[1]
VERSIONS: Final = ("3.11", "3.12", "3.13")
LOCK: Final = TOP / "requirements.lock"
TESTS: Final = ("-n", "auto", "--maxprocesses", "4", "tests/unit", "tests/integration")
DEBIAN: Final = ("postgresql", "redis-server")
_PROBE: Final = "import sys, venv, ensurepip; print('%d.%d.%d' % sys.version_info[:3])"


def main() -> int:
    """Run every member of the matrix, print a line for each, and return the exit code."""
    results: dict[str, str] = {}
    failed = False
    for version in VERSIONS:
        member = f"Python {version}"
        found = find(version)
        if found is None:
            _say(f"{member}: missing, skipped")
            results[member] = "missing, skipped"
            continue
        program, exact = found
        _say(f"{member}: found {exact}, {program}")
        python = environment(version, program)
        results[f"Python {exact}"] = result = _tests(python) if python else "set-up FAILED"
        failed |= not result.startswith("passed")
    member = "Debian's Postgres and Redis"
    _say(member)
    if subprocess.run([sys.executable, TOP / ".ci/debian_packages.py", *DEBIAN], check=False).returncode:
        results[member] = result = "set-up FAILED"
    else:
        results[member] = result = _tests(
            Path(sys.executable), "-m", "tests.system.debian_servers", sys.executable
        )
    failed |= not result.startswith("passed")
    _say("matrix")
    for member, result in results.items():
        print(f"{member:<30} {result}")
    return int(failed)


def find(version: str) -> tuple[Path, str] | None:
    """Return an interpreter of this version that works, and its exact version; None if there is none."""
    for program in _candidates(version):
        done = subprocess.run([program, "-c", _PROBE], capture_output=True, text=True, check=False)
        exact = done.stdout.strip()
        if done.returncode == 0 and exact.startswith(f"{version}."):
            return program, exact
    return None


def _candidates(version: str) -> Iterator[Path]:
    """Yield the programs on the PATH, then those that pyenv installed. `find` tries each: a shim may fail."""
    name = f"python{version}"
    for folder in os.get_exec_path():
        if (program := Path(folder) / name).is_file():
            yield program
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(versions.glob(f"{version}*/bin/{name}"), reverse=True)


def environment(version: str, program: Path) -> Path | None:
    """Return the Python of this version's environment, made anew when the lock changed; None on failure."""
    folder = TOP / f".venv-{version}"
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = hashlib.sha256(LOCK.read_bytes() + (TOP / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"creating {folder.name} from {LOCK.name} ...", flush=True)
    pip = (python, "-m", "pip", "-qq", "--disable-pip-version-check", "install")
    for command in (
        (program, "-m", "venv", "--clear", folder),
        (*pip, "--require-hashes", "--requirement", LOCK),
        (*pip, "--no-deps", "--no-build-isolation", "--editable", TOP),
    ):
        if subprocess.run(command, cwd=TOP, check=False).returncode:
            return None
    stamp.write_text(wanted)
    return python


def _tests(*command: str | Path) -> str:
    """Run the tests; the command is put before `-m pytest`. Return a result for people."""
    start = time.monotonic()
    code = subprocess.run([*command, "-m", "pytest", *TESTS], cwd=TOP, check=False).returncode
    return f"{'FAILED' if code else 'passed'} in {time.monotonic() - start:.0f} s"


def _say(text: str) -> None:
    print(f"\n==== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
