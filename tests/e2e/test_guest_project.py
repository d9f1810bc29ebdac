"""Callboard works in a user's project that has a `jobs.py`, `config/`, `api.py`, ... of its own.

Wheel and sdist are built from the tree, and installed outside the repository.
"""

import json
import shutil
import statistics
import tarfile
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from zipfile import ZipFile

import psycopg
import pytest
import redis
from psycopg import sql

from callboard.config.embedded import ServerUrls
from callboard.jobs.postgres import schema
from tests.e2e.guest import ROOT, Builds, Guest, build
from tests.e2e.stage import PATIENCE, until

pytestmark = pytest.mark.timeout(300)

#: Our folders, which are importable as callboard.<folder> alone.
FOLDERS = ("api", "cli", "config", "jobs", "scheduler", "workers")
OTHERS = ("benchmarks", "examples", "src", "tests", "docs", "deploy")
MARKERS = {name: f"the user's {name}" for name in FOLDERS}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder outside the repository."""
    made = Path(tempfile.mkdtemp(prefix="callboard-guest-"))
    assert not made.is_relative_to(ROOT)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def builds(folder: Path) -> Builds:
    return build(folder)


# The sdist makes the same wheel, as a test says.
@pytest.fixture(scope="module", params=["wheel", pytest.param("sdist", marks=pytest.mark.long)])
def guest(
    request: pytest.FixtureRequest, builds: Builds, folder: Path, server_urls: ServerUrls, redis_url: str
) -> Iterator[Guest]:
    """A project with one of the builds installed, an empty database of its own, and an empty Redis."""
    home = folder / request.param
    home.mkdir()
    name = sql.Identifier(f"callboard_{folder.name}_{request.param}")
    with psycopg.connect(server_urls.database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            with redis.Redis.from_url(redis_url) as client:
                client.flushdb()
            database_url = urlsplit(server_urls.database_url)._replace(path=f"/{name.as_string()[1:-1]}")
            yield Guest.install(
                builds.wheel if request.param == "wheel" else builds.rebuilt,
                home,
                database_url=urlunsplit(database_url),
                redis_url=redis_url,
                secret_key="only for these tests",
                jobs="jobs",
                processes="1",
                threads="2",
                log_format="json",
                port="0",
            )
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def files_of(wheel: Path) -> dict[str, bytes]:
    """Return the package's files in a wheel."""
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("callboard/")}


def called(url: str, token: str, path: str, body: object = None) -> Any:
    """Return the JSON of a successful GET, or POST when there is a body."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request(
            "GET" if body is None else "POST",
            path,
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status in {200, 201}, content
        return json.loads(content)
    finally:
        connection.close()


def logged(log: Path, event: str) -> dict[str, Any]:
    """Return the first event of this name in a process's log, once it is there."""
    return until(lambda: [line for line in map(json.loads, lines(log)) if line["event"] == event])[0]


def lines(log: Path) -> list[bytes]:
    return [line for line in log.read_bytes().splitlines() if line.startswith(b"{") and line.endswith(b"}")]


def test_the_wheel_has_all_files_of_our_folders_and_nothing_else(builds: Builds) -> None:
    expected = {f"callboard/{name}" for name in ("__init__.py", "__main__.py", "dramatiq.py", "py.typed")}
    for top in FOLDERS:
        files = (
            path for path in (ROOT / top).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        )
        expected |= {f"callboard/{path.relative_to(ROOT).as_posix()}" for path in files}
    testing = (ROOT / "src/callboard/testing").glob("*.py")
    expected |= {f"callboard/testing/{path.name}" for path in testing}
    assert files_of(builds.wheel).keys() == expected
    with ZipFile(builds.wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        (metadata,) = tops - {"callboard"}
        assert archive.read(f"{metadata}/top_level.txt") == b"callboard\n"
        assert archive.read(f"{metadata}/entry_points.txt").split() == [
            *(b"[console_scripts]", b"callboard", b"=", b"callboard.cli.main:main"),
            *(b"[pytest11]", b"callboard", b"=", b"callboard.testing.plugin"),
        ]


def test_the_sdist_has_real_files_and_makes_the_same_wheel(builds: Builds) -> None:
    assert files_of(builds.rebuilt) == files_of(builds.wheel)
    with tarfile.open(builds.sdist) as archive:
        assert [member.name for member in archive if not (member.isreg() or member.isdir())] == []
        top = archive.getnames()[0].partition("/")[0]
        for name, content in files_of(builds.wheel).items():
            file = archive.extractfile(f"{top}/src/{name}")
            assert file is not None
            assert file.read() == content, name


def test_worker_scheduler_api_client_and_cli_use_the_users_modules(guest: Guest) -> None:
    assert schema.NEEDED in guest.run(guest.venv / "bin" / "callboard", "db", "upgrade")
    token = guest.callboard("key", "create", "guest", "--role", "operator")["token"]
    with guest.running("worker"), guest.running("scheduler"), guest.running("api") as api_log:
        until(lambda: guest.callboard("worker", "list")["items"])
        sent = json.loads(guest.run(guest.python, "send.py"))
        assert [state for state, _ in sent] == ["succeeded"] * 4
        assert [result for _, result in sent[:3]] == [{"n": n} | MARKERS for n in (1, 2, 3)]
        assert all(Path(file).is_relative_to(guest.project.resolve()) for file in sent[3][1])

        shown = guest.callboard(
            "job", "enqueue", "markers", "--args", '{"n": 4}', "--wait", "--timeout", "60s"
        )
        assert (shown["state"], shown["result"]) == ("succeeded", {"n": 4} | MARKERS)

        guest.callboard(
            "schedule", "create", "often", "--job", "markers", "--every", "1s", "--args", '{"n": 5}'
        )
        until(lambda: 5 in results(guest, source="schedule"))

        url = str(logged(api_log, "api.listening")["url"])
        job = called(url, token, "/v1/jobs", {"name": "markers", "kwargs": {"n": 6}})
        ended = called(url, token, f"/v1/jobs/{job['id']}?wait=30s")
        assert (ended["state"], ended["result"]) == ("succeeded", {"n": 6} | MARKERS)


def results(guest: Guest, source: str) -> list[int]:
    """Return `n` of the jobs that succeeded and came from this source."""
    listed = guest.callboard("job", "list", "--state", "succeeded")["items"]
    shown = [guest.callboard("job", "show", job["id"]) for job in listed if job["source"] == source]
    return [job["result"]["n"] for job in shown]


TESTS = """
import jobs
from callboard.testing import Drained, run


def test_one_job():
    result = run(jobs.markers, 7)
    assert (result.outcome, result.result["n"], result.progress[0].note) == ("succeeded", 7, "half")


def test_what_is_enqueued(enqueued):
    jobs.markers.enqueue(n=1)
    enqueued.assert_enqueued(jobs.markers, n=1, count=1)


def test_with_servers(drain):
    jobs.markers.with_options(delay="1h").enqueue(2)
    jobs.files.send()
    assert drain() == Drained(succeeded=1)
    assert drain(until="2h") == Drained(succeeded=1)
"""


def test_the_fixtures_work_in_the_users_tests_and_leave_no_schema(guest: Guest) -> None:
    (guest.project / "test_jobs.py").write_text(TESTS)
    told = guest.run(guest.python, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "test_jobs.py")
    assert "3 passed" in told
    with psycopg.connect(guest.environment["CALLBOARD_DATABASE_URL"]) as connection:
        named = "select count(*) from pg_namespace where nspname like 'callboard_test%'"
        assert connection.execute(named).fetchone() == (0,)


def test_the_plugin_imports_nothing_until_a_fixture_is_used(guest: Guest) -> None:
    (guest.project / "test_nothing.py").write_text(
        "import sys\n\n\ndef test_it():\n"
        "    loaded = {name for name in sys.modules if name.partition('.')[0] == 'callboard'}\n"
        "    assert loaded == {'callboard', 'callboard.testing', 'callboard.testing.plugin'}, loaded\n"
    )
    told = guest.run(guest.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_nothing.py")
    assert "1 passed" in told


def test_python_m_callboard_is_the_command(guest: Guest) -> None:
    command = guest.venv / "bin" / "callboard"
    for option in ("--version", "--help"):
        assert guest.run(guest.python, "-m", "callboard", option) == guest.run(command, option)
    version = guest.run(command, "--version").split()[-1]
    assert (guest.site_packages / f"callboard-{version}.dist-info").is_dir()


def test_nothing_else_of_ours_is_importable(guest: Guest, tmp_path: Path) -> None:
    installed = {path.name.partition("-")[0] for path in guest.site_packages.iterdir()}
    assert installed == {"callboard", "dependencies.pth"}
    program = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    names = (*FOLDERS, *OTHERS)
    assert guest.run(guest.python, "-c", program, *names, folder=tmp_path) == "[]\n"
    program = "import callboard.api, callboard.jobs; print(*callboard.__path__, *callboard.jobs.__path__)"
    for path in guest.run(guest.python, "-c", program, folder=tmp_path).split():
        assert Path(path).is_relative_to(guest.site_packages)
    program = "import jobs; print(jobs.__file__)"
    assert Path(guest.run(guest.python, "-c", program).strip()) == guest.project / "jobs.py"


def test_importing_callboard_loads_nothing_heavy(guest: Guest) -> None:
    program = (
        "import sys, time; known = set(sys.modules); start = time.perf_counter(); import callboard\n"
        "print(time.perf_counter() - start, *(set(sys.modules) - known))"
    )
    runs = [guest.run(guest.python, "-c", program).split() for _ in range(10)]
    print(f"import callboard: {statistics.median(float(run[0]) for run in runs) * 1000:.1f} ms, median of 10")
    assert [loaded for _, *loaded in runs] == [["callboard"]] * 10
