"""The rules of the layout that import-linter cannot express. Its contracts are in pyproject.toml."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("api", "cli", "config", "jobs", "scheduler", "workers")
#: The migrations are outside: Alembic runs them by path, and released ones do not change.
MIGRATIONS = "jobs/postgres/migrations/"


@cache
def sources() -> dict[str, ast.Module]:
    """The code of the platform, by path."""
    paths = [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.relative_to(ROOT).as_posix().startswith(MIGRATIONS)
    ]
    paths += sorted(
        path
        for path in (ROOT / "src" / "callboard").rglob("*.py")
        if not any(map(Path.is_symlink, path.parents))
    )
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def imports(tree: ast.Module) -> Iterator[str]:
    """Every name that a module imports, also inside functions and for type checkers only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package: str) -> list[str]:
    return [
        path
        for path, tree in sources().items()
        if any(name == package or name.startswith(package + ".") for name in imports(tree))
    ]


REPOSITORY = r"(?:jobs/\w+|src/callboard/testing)/repository(/\w+)?\.py"
TESTING = r"src/callboard/testing/\w+\.py"
CLIENT = r"jobs/(async_)?client\.py"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        (
            "sqlalchemy",
            rf"{REPOSITORY}|jobs/\w+/tables\.py|jobs/tables\.py|jobs/postgres/(?:sessions/|callers/)?\w+\.py|{CLIENT}",
        ),
        # the embedded server is started by its own means
        (
            "psycopg",
            rf"{REPOSITORY}|jobs/postgres/(?:sessions/|rows/|callers/)?\w+\.py|{CLIENT}|config/embedded/\w+\.py",
        ),
        ("alembic", r"jobs/postgres/\w+\.py"),
        ("redis", r"jobs/redis/\w+\.py"),
        ("dramatiq", rf"{TESTING}|workers/.*|jobs/dramatiq/\w+\.py|src/callboard/dramatiq\.py"),
        ("apscheduler", r"jobs/schedules/\w+\.py"),
        ("click", r"cli/.*"),
        ("fastapi", r"api/.*"),
        ("starlette", r"api/.*"),
        ("pydantic_settings", r"config/.*"),
    ],
)
def test_a_library_is_imported_only_where_it_belongs(package, allowed):
    assert [path for path in importers(package) if not re.fullmatch(allowed, path)] == []


#: These read the wall clock: for what people read (ages, filters), and for times that come from outside.
WALL_CLOCK_READERS = (
    r"jobs/model/basics/clock\.py|jobs/operate/selection\.py|jobs/webhooks/deliveries\.py"
    rf"|jobs/access/auth_failures\.py|api/query_filters\.py|cli/.*|{TESTING}"
)
WALL_CLOCK = (
    r"(\w+\.)*(\w*clock|SYSTEM|datetime|date)\.(now|utcnow|today)|time\.(time|time_ns|localtime|gmtime)"
)


def test_what_decides_when_something_happens_does_not_read_the_wall_clock():
    readers = {
        path
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and re.fullmatch(WALL_CLOCK, ast.unparse(node.func))
    }
    assert {path for path in readers if not re.fullmatch(WALL_CLOCK_READERS, path)} == set()
    assert {"jobs/model/basics/clock.py", "cli/worker_commands.py"} <= readers


def texts(tree: ast.Module) -> Iterator[str]:
    """The string constants of a module, without docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


SQL = re.compile(
    r"\b(SELECT\b.*\bFROM|INSERT INTO|UPDATE\s+\S+\s+SET|DELETE FROM|FOR UPDATE|RETURNING)\b", re.DOTALL
)


def test_sql_is_written_in_repositories_alone():
    found = [
        path
        for path, tree in sources().items()
        if not re.fullmatch(
            rf"{REPOSITORY}|jobs/\w+/tables\.py|jobs/postgres/(?:sessions/|callers/)?\w+\.py", path
        )
        and any(SQL.search(text) for text in texts(tree))
    ]
    assert found == []


def test_only_repositories_and_tables_name_tables():
    """`{SCHEMA}.jobs` and the like: the schema's placeholder appears in SQL only."""
    found = [
        path
        for path, tree in sources().items()
        if not re.fullmatch(rf"{REPOSITORY}|jobs/\w+/tables\.py|jobs/postgres/\w+\.py", path)
        and "callboard.jobs.postgres.sql.SCHEMA" in imports(tree)
    ]
    assert found == []


def test_a_repository_imports_no_service():
    """Services call repositories, never the other way.

    A repository imports values, its subject's and others'.
    """
    services = {
        path
        for path, tree in sources().items()
        if "callboard.jobs.postgres.database.Database" in imports(tree)
    }
    modules = {"callboard." + path.removesuffix(".py").replace("/", ".") for path in services}
    found = [
        (path, name)
        for path, tree in sources().items()
        if re.fullmatch(REPOSITORY, path)
        for name in imports(tree)
        if name in modules
    ]
    assert found == []


def graph() -> dict[str, set[str]]:
    """Which module imports which, also inside functions and for type checkers only."""
    names = {
        ("callboard." + path.removesuffix(".py").replace("/", ".")).removesuffix(".__init__"): tree
        for path, tree in sources().items()
        if not path.startswith("src/")
    }
    return {
        name: {found for found in imports(tree) if found in names} - {name} for name, tree in names.items()
    }


def test_no_modules_import_each_other_in_a_circle():
    edges = graph()
    # Modules that import nothing of the rest are in no circle; neither are those that only import these.
    while leaves := {name for name, found in edges.items() if not found & edges.keys()}:
        edges = {name: found for name, found in edges.items() if name not in leaves}
    # What is left may still only import a circle: take away what nobody imports.
    while roots := edges.keys() - set().union(*edges.values(), ()):
        edges = {name: found for name, found in edges.items() if name not in roots}
    assert {name: sorted(found & edges.keys()) for name, found in edges.items()} == {}


def test_no_file_of_ours_is_loaded_under_two_names():
    """The folders are links in src/callboard: a wrong import would load a file a second time."""
    program = """
import sys
from pathlib import Path
import callboard.workers.worker_process, callboard.workers.child, callboard.scheduler.scheduler_process
import callboard.api.api_process, callboard.api.app, callboard.cli.main, callboard.jobs.client, callboard.dramatiq
root = Path(sys.argv[1])
names = {}
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if file and Path(file).resolve().is_relative_to(root) and "site-packages" not in Path(file).parts:
        names.setdefault(Path(file).resolve(), []).append(name)
assert len(names) > 100, len(names)
twice = {str(file): found for file, found in names.items() if len(found) > 1}
short = sorted({name for found in names.values() for name in found if not name.startswith("callboard")})
print(twice, short)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)], cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("{} []", "")
