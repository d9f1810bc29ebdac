"""Runs Dramatiq's own tests against our broker: `make contract`.

The tests come with the source distribution of the version in requirements.lock, which pip downloads. The
lock's digests are checked. The tests are unpacked into a temporary folder, and run there with our fixtures.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SUITE = "dramatiq_suite"


def main() -> int:
    """Download, unpack, run; returns pytest's exit code."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-contract-"))
    try:
        suite = unpack(download(folder), folder / SUITE)
        options = (
            "-c",
            os.devnull,
            "--rootdir",
            str(folder),
            "-q",
            "-p",
            "no:cacheprovider",
            "--timeout",
            "120",
        )
        command = [sys.executable, "-m", "pytest", *options, str(suite), *sys.argv[1:]]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    finally:
        shutil.rmtree(folder)


def download(folder: Path) -> Path:
    """The source distribution of the Dramatiq that is locked."""
    version, digests = locked()
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--no-binary", "dramatiq", "--dest", str(folder), f"dramatiq=={version}"],
        check=True,
    )  # fmt: skip
    archive = folder / f"dramatiq-{version}.tar.gz"
    if hashlib.sha256(archive.read_bytes()).hexdigest() not in digests:
        raise SystemExit(f"{archive.name} is not the one that requirements.lock names")
    return archive


def locked() -> tuple[str, set[str]]:
    """Version and digests of Dramatiq in requirements.lock."""
    entry = re.search(
        r"^dramatiq(?:\[.*?\])?==(\S+) \\\n((?: +--hash=\S+(?: \\)?\n)+)",
        (ROOT / "requirements.lock").read_text(),
        re.MULTILINE,
    )
    if entry is None:
        raise SystemExit("requirements.lock names no dramatiq")
    return entry[1], set(re.findall(r"sha256:(\w+)", entry[2]))


def unpack(archive: Path, suite: Path) -> Path:
    """The tests that are run, as a package with our fixtures."""
    suite.mkdir()
    left_out = tomllib.loads((HERE / "left_out.toml").read_text())["files"]
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            if member.isfile() and path.parts[1:2] == ("tests",) and path.name not in left_out:
                file = tar.extractfile(member)
                assert file is not None
                (suite / path.name).write_bytes(file.read())
    (suite / "__init__.py").touch()
    shutil.copy(HERE / "suite_conftest.py", suite / "conftest.py")
    shutil.copy(HERE / "suite_common.py", suite / "common.py")
    return suite


if __name__ == "__main__":
    sys.exit(main())
