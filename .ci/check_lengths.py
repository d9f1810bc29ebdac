"""Check the sizes of files and folders: 300 lines a file, 20 Python files a folder. Tests may be larger."""
# ruff: noqa: INP001, T201 - a script

import sys
from collections import Counter
from pathlib import Path
from typing import Final

MAX_LINES: Final = 300
MAX_FILES: Final = 20
#: A released migration does not change, and there is one more with every step.
EXEMPT: Final = ("tests/", "build/", ".venv", "jobs/postgres/migrations/versions/")


def main() -> int:
    """Name every file and folder that is too large; return the exit code."""
    top = Path(__file__).parents[1]
    paths = [path.relative_to(top) for path in sorted(top.rglob("*.py"))]
    names = [path for path in paths if not path.as_posix().startswith(EXEMPT)]
    problems = []
    for path in names:
        lines = len((top / path).read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            problems.append(f"{path} has {lines} lines, at most {MAX_LINES} are allowed: split it by subject")
    for folder, count in sorted(Counter(path.parent.as_posix() for path in names).items()):
        if count > MAX_FILES:
            problems.append(
                f"{folder} has {count} files, at most {MAX_FILES} are allowed: group them by subject"
            )
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
