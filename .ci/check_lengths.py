"""No source file is longer than 300 lines: what does not fit is more than one subject. Tests may be longer."""
# ruff: noqa: INP001, T201 - a script

import sys
from pathlib import Path
from typing import Final

LONGEST: Final = 300
#: A migration is one step, and is not touched once it is released.
EXEMPT: Final = ("tests/", "build/", "jobs/migrations/versions/")


def main() -> int:
    """Name every file that is too long; returns the exit code."""
    top, too_long = Path(__file__).parents[1], []
    for path in sorted(top.rglob("*.py")):
        name = path.relative_to(top).as_posix()
        if name.startswith((*EXEMPT, ".venv")):
            continue
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST:
            too_long.append(name)
            print(f"{name} has {lines} lines, {LONGEST} at most: split it by subject")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
