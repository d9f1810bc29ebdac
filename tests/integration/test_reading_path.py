"""docs/explanation/architecture.md names the files that one must open to follow an enqueue and an attempt:
exactly these.

The calls are traced in a process of their own, over real servers.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
PROGRAM = Path(__file__).with_name("reading_path_program.py")
JOBS = "from callboard import job\n\n@job\ndef add(a: int, b: int) -> int:\n    return a + b\n"


def named(list_name: str) -> list[str]:
    """The files in one of the page's lists."""
    found = re.search(
        rf"<!-- {list_name} files -->\n(.*?)<!-- end -->", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None, f"the page has no list of {list_name} files"
    return re.findall(r"`([^`]+\.py)`", found[1])


@pytest.fixture(scope="module")
def traced(migrated, database_url, redis_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced")
    (folder / "traced_jobs.py").write_text(JOBS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, PROGRAM, database_url, redis_url, "traced_jobs"],
        env=os.environ | {"PYTHONPATH": str(folder)}, cwd=folder,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("list_name", ["enqueue", "attempt", "worker"])
def test_the_page_names_exactly_the_files_that_a_traced_call_enters(traced, list_name):
    assert sorted(named(list_name)) == traced[list_name]


def test_an_enqueue_and_an_attempt_are_followed_in_few_files(traced):
    """The claim, the run and the finish themselves; the worker around them is a list of its own."""
    assert len(traced["enqueue"]) <= 8
    assert len(traced["attempt"]) <= 10
