"""Run pytest; run what failed beside other tests once more, alone, and say which tests passed only then.

python .ci/run_tests.py -n 3 -m "not long" tests/e2e

Many of the tests kill processes and wait for others. On a machine with two busy cores one of thousands can
run out of its time without a fault of the product. A test that fails alone too is a failure.
"""
# ruff: noqa: INP001, T201, S603 - a script

import json
import subprocess
import sys
from pathlib import Path

_FAILED = Path(".pytest_cache/v/cache/lastfailed")
_TESTS_FAILED = 1
#: More failures than this have one cause, and it is not the load.
_MOST = 5


def main(options: list[str]) -> int:
    """Return pytest's exit code."""
    _FAILED.unlink(missing_ok=True)
    status = _pytest(options)
    failed = list(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    if status != _TESTS_FAILED or not 0 < len(failed) <= _MOST:
        return status
    print("once more, alone:", *failed, sep="\n  ", flush=True)
    status = _pytest(failed)
    if status == 0:
        print("passed alone only:", *failed, sep="\n  ", flush=True)
    return status


def _pytest(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
