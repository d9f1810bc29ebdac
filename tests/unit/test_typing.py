"""The public API is typed: two type checkers accept a user's program, and report each of a user's mistakes.

The programs are in tests/typing. A line of sample_wrong.py that ends in `# error` is a mistake.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "typing"
OK, WRONG = SAMPLES / "sample_ok.py", SAMPLES / "sample_wrong.py"
#: A checker reads the whole package at its first run.
PATIENCE = 300


def mypy(sample: Path) -> dict[int, str]:
    """Return mypy's errors in a file, by line. The package is installed and has py.typed."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-pretty"),
            *("--cache-dir", str(ROOT / ".mypy_cache" / "samples"), sample.name),
        ],
        cwd=sample.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = re.findall(r"^([^:\n]+):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert bool(found) == bool(done.returncode), done.stdout + done.stderr
    assert {file for file, _, _ in found} <= {sample.name}, done.stdout
    return {int(line): text for _, line, text in found}


def pyright(sample: Path, folder: Path) -> dict[int, str]:
    """Return pyright's errors in a file, by line. basedpyright is pyright with a Node.js from a wheel."""
    settings = {"include": [str(sample)], "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "basedpyright", "--outputjson"),
            *("--project", str(folder), "--pythonpath", sys.executable),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    found = report["generalDiagnostics"]
    assert {Path(each["file"]).name for each in found} <= {sample.name}
    return {each["range"]["start"]["line"] + 1: each["message"] for each in found}


def marked(sample: Path) -> set[int]:
    """Return the numbers of the lines that end in `# error`."""
    lines = sample.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


@pytest.mark.timeout(PATIENCE)
def test_mypy_accepts_a_users_program() -> None:
    assert mypy(OK) == {}


@pytest.mark.timeout(PATIENCE)
def test_pyright_accepts_a_users_program(tmp_path: Path) -> None:
    assert pyright(OK, tmp_path) == {}


@pytest.mark.timeout(PATIENCE)
def test_mypy_reports_each_mistake_and_nothing_else() -> None:
    assert mypy(WRONG).keys() == marked(WRONG)


@pytest.mark.timeout(PATIENCE)
def test_pyright_reports_each_mistake_and_nothing_else(tmp_path: Path) -> None:
    assert pyright(WRONG, tmp_path).keys() == marked(WRONG)


def test_the_mistakes_are_of_every_kind() -> None:
    lines = [line for line in WRONG.read_text(encoding="utf-8").splitlines() if line.endswith("# error")]
    kinds = (
        r"^    \w+\(",
        r"\.enqueue\(",
        r"\.send\(",
        r"\.with_options\(.*\)\.enqueue\(",
        r"\.enqueue_with\(",
        r"client\.enqueue\(",
        r"client\.enqueue_many\(",
        r"await ",
        r"RetryPolicy\(",
        r"^    job\(",
    )
    assert [kind for kind in kinds if not any(re.search(kind, line) for line in lines)] == []
