"""One name for one thing: no two modules and no two classes of the platform have the same name."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("api", "cli", "config", "jobs", "scheduler", "workers")
#: The modules that many subjects have, each in its own folder.
ROLES = {"__init__", "__main__", "repository", "tables"}


def files() -> list[Path]:
    migrations = ROOT / "jobs" / "postgres" / "migrations"
    return [
        path
        for folder in (*FOLDERS, "src/callboard/testing")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.is_relative_to(migrations)
    ]


def shared(names: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in names.items() if len(places) > 1}


def test_no_two_modules_have_the_same_name():
    names: dict[str, list[str]] = defaultdict(list)
    for path in files():
        if path.stem not in ROLES:
            names[path.stem].append(path.relative_to(ROOT).as_posix())
    assert shared(names) == {}


def test_no_two_classes_have_the_same_name():
    names: dict[str, list[str]] = defaultdict(list)
    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names[node.name].append(path.relative_to(ROOT).as_posix())
    assert shared(names) == {}
