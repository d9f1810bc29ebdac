"""Every code block of the documentation runs, on one platform that knows the jobs that the documentation
defines.

The blocks of a page run in their order: a later one may rely on an earlier one of the same page.
A Python block whose first line names a file (`# shop/reports.py`) is that file. The workers import it. If it
is a test (`# tests/test_reports.py`), pytest runs it, and no worker imports it. A block that cannot run has `<!-- not run: why -->` above it.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
RUN = {"python", "sh", "sql"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+(?:/\w+)*\.py)\n")
SECRET = "0123456789abcdef0123456789abcdef"
SECONDS = 180


@dataclass(frozen=True)
class Block:
    place: str
    language: str
    code: str

    @property
    def page(self) -> str:
        return self.place.partition(":")[0]

    @property
    def file(self) -> str | None:
        found = FILE.match(self.code)
        return found[1] if found and self.language == "python" else None

    @property
    def is_test(self) -> bool:
        return bool(self.file and self.file.startswith("tests/"))


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for fence in FENCE.finditer(text):
            above = text[: fence.start()].rstrip().rpartition("\n")[2]
            if fence[1] in RUN and not above.startswith("<!-- not run: "):
                line = text.count("\n", 0, fence.start()) + 1
                yield Block(f"{page.relative_to(ROOT)}:{line}", fence[1], fence[2])


BLOCKS = list(blocks())
FILES = [block for block in BLOCKS if block.file and not block.is_test]


@dataclass(frozen=True)
class Place:
    """Where blocks run: a folder with the files, and the environment of a user."""

    folder: Path
    environment: dict[str, str]
    database_url: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=SECONDS,
        )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, database_url, redis_url) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("reader")
    for block in FILES:
        path = folder / block.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.code)
    modules = [block.file.removesuffix(".py").replace("/", ".") for block in FILES]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("CALLBOARD_", "PYTEST_"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "CALLBOARD_DATABASE_URL": database_url,
        "CALLBOARD_REDIS_URL": redis_url,
        "CALLBOARD_SECRET_KEY": SECRET,
        "CALLBOARD_PORT": "0",
        "CALLBOARD_JOBS": ",".join(["examples.jobs", *modules]),
        "CALLBOARD_PROCESSES": "1",
        "CALLBOARD_DATA_DIR": str(folder / "data"),
    }
    log = (folder / "up.log").open("wb")
    up = subprocess.Popen(
        [sys.executable, "-m", "callboard", "up", "--json"], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=log,
    )  # fmt: skip
    hang = threading.Timer(SECONDS, up.terminate)
    hang.start()
    try:
        told = b""
        while not told.endswith(b"}\n"):
            line = up.stdout.readline()
            assert line, (folder / "up.log").read_text()
            told += line
        hang.cancel()
        port = urlsplit(json.loads(told)["url"]).port
        yield Place(folder, environment | {"CALLBOARD_PORT": str(port)}, database_url)
    finally:
        hang.cancel()
        up.terminate()
        up.wait(SECONDS)
        up.stdout.close()
        log.close()


def test_the_files_of_the_documentation_define_jobs(place):
    told = place.run(
        sys.executable, "-c", "import psycopg, json, os; print(json.dumps([r[0] for r in psycopg.connect("
        "os.environ['CALLBOARD_DATABASE_URL']).execute('select name from callboard.job_types')]))",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    known = set(json.loads(told.stdout))
    for block in (one for one in FILES if re.search(r"^@", one.code, re.MULTILINE)):
        names = set(re.findall(r"^(?:async )?def (\w+)\(", block.code, re.MULTILINE))
        assert names & known, block.place


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block not in FILES}))
def test_the_blocks_of_a_page_run_in_their_order(page, place):
    failed = []
    for block in BLOCKS:
        if block.page == page and block not in FILES:
            failed += run(block, place)
    assert not failed, "\n".join(failed)


def run(block: Block, place: Place) -> list[str]:
    """Run one block; returns what it printed if it failed."""
    if block.language == "sql":
        with psycopg.connect(place.database_url, autocommit=True) as connection:
            connection.execute(block.code)
        return []
    if block.is_test:
        path = place.folder / block.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.code)
        command, code = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"), block.file
    else:
        python = block.language == "python"
        command, code = (sys.executable, "-c") if python else ("bash", "-euo", "pipefail", "-c"), block.code
    done = place.run(*command, code)
    return [f"{block.place}\n{done.stdout}\n{done.stderr}"] if done.returncode else []
