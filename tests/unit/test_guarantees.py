"""The page of guarantees names tests that exist, and leaves no row without one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/guarantees.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "proved by" not in line]


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_every_guarantee_names_tests_that_exist(row):
    named = NAMED.findall(row)
    assert named
    for path, name in named:
        assert name.startswith("test_")
        assert name in names_in(path), f"{path}::{name}"


def test_no_name_is_written_in_a_way_that_is_not_checked():
    assert PAGE.count("::") == len(NAMED.findall(PAGE))
