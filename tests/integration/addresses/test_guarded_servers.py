"""Every form of a URL works by every command alike, on real servers; no output has a part of a password."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.errors import Unavailable
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.leadership import Leadership
from callboard.jobs.postgres.listening import listening
from callboard.jobs.redis.transport import Transport
from tests.integration.addresses.guarded_servers import ACCOUNT, DATABASE, PASSWORD, USER, free_port

SECRET = "0123456789abcdef0123456789abcdef"
NAME = quote(DATABASE)
#: Nothing listens there.
DEAD = "127.0.0.1:1"
DEADLINE = 60.0
JOBS = """
from callboard import job

@job
def add(a: int, b: int) -> int:
    return a + b
"""
#: Runs the commands of the command line one after the other, and prints their exit codes and outputs.
COMMANDS = """
import json, sys
from click.testing import CliRunner
from callboard.cli.main import cli
done = [(words, CliRunner().invoke(cli, words.split())) for words in sys.argv[1:]]
print(json.dumps([[words, one.exit_code, one.stdout, one.stderr] for words, one in done]))
"""
#: Enqueues by the client, which knows the job.
ENQUEUE = """
import shop_jobs
from callboard import Client
from callboard.jobs.dramatiq.definition import define
with Client.from_env() as client:
    client.platform.catalogue.publish([define(shop_jobs.add).type])
    print(client.enqueue("add", {"a": 1, "b": 2}).state)
"""
#: Enqueues once the workers have published the job.
WAIT = """
import time
from callboard import CallboardError, Client
deadline = time.monotonic() + 50
while True:
    try:
        with Client.from_env() as client:
            print(client.wait(client.enqueue("add", {"a": 1, "b": 2}).id, timeout=50).result)
        break
    except CallboardError:
        assert time.monotonic() < deadline
        time.sleep(0.1)
"""

#: How people write where Postgres is. `{}` are fields of GuardedServers; the values of PG* variables follow.
POSTGRES = {
    "TCP": (f"postgresql://{ACCOUNT}@127.0.0.1:{{postgres_port}}/{NAME}", {}),
    "short scheme": (f"postgres://{ACCOUNT}@localhost:{{postgres_port}}/{NAME}", {}),
    "IPv6": (f"postgresql://{ACCOUNT}@[::1]:{{postgres_port}}/{NAME}", {}),
    "socket as host": (f"postgresql://{ACCOUNT}@{{encoded_folder}}:{{postgres_port}}/{NAME}", {}),
    "socket as parameter": (
        f"postgresql://{ACCOUNT}@/{NAME}?host={{postgres_folder}}&port={{postgres_port}}", {}),
    "first host dead": (
        f"postgresql://{ACCOUNT}@{DEAD},[::1]:{{postgres_port}}/{NAME}?target_session_attrs=read-write", {}),
    "account as parameters": (
        f"postgresql://127.0.0.1:{{postgres_port}}/?user={quote(USER)}&dbname={NAME}&password={quote(PASSWORD, '')}",
        {},
    ),
    "TLS": (
        f"postgresql://{ACCOUNT}@localhost:{{postgres_tls_port}}/{NAME}?sslmode=verify-full&sslrootcert={{authority}}",
        {},
    ),
    "options": (f"postgresql://{ACCOUNT}@127.0.0.1:{{postgres_port}}/{NAME}?options=-csearch_path%3Dx", {}),
    "no account": (
        f"postgresql://127.0.0.1:{{postgres_port}}/{NAME}", {"PGUSER": USER, "PGPASSWORD": PASSWORD}),
    "nothing": (
        "postgresql://",
        {"PGHOST": "127.0.0.1", "PGPORT": "{postgres_port}", "PGUSER": USER, "PGPASSWORD": PASSWORD,
         "PGDATABASE": DATABASE, "PGOPTIONS": "-c search_path=x"},
    ),
    "password file": (
        f"postgresql://{quote(USER, '')}@127.0.0.1:{{postgres_port}}/{NAME}", {"PGPASSFILE": "{passfile}"}),
    "service": ("postgresql://?service=shop", {"PGSERVICEFILE": "{servicefile}"}),
}  # fmt: skip
REDIS = {
    "TCP": f"redis://{ACCOUNT}@127.0.0.1:{{valkey_port}}/5",
    "IPv6": f"redis://{ACCOUNT}@[::1]:{{valkey_port}}/5",
    "socket": f"unix://{ACCOUNT}@{{valkey_socket}}?db=3",
    "account as parameters": (
        f"unix://{{valkey_socket}}?db=3&username={quote(USER, '')}&password={quote(PASSWORD, '')}"),
    "password with raw @ and :": f"redis://{quote(USER, '')}:p@s:s%2Fw%23r%25d%20+&=%3F@127.0.0.1:{{valkey_port}}",
    "TLS": f"rediss://{ACCOUNT}@localhost:{{valkey_tls_port}}/5?ssl_ca_certs={{authority}}",
}  # fmt: skip


def fields(guarded, folder: Path) -> dict[str, object]:
    password = PASSWORD.replace(":", "\\:")
    (folder / "passfile").write_text(f"127.0.0.1:{guarded.postgres_port}:*:{USER}:{password}\n")
    (folder / "passfile").chmod(0o600)
    (folder / "servicefile").write_text(
        f"[shop]\nhost=127.0.0.1\nport={guarded.postgres_port}\nuser={USER}\npassword={PASSWORD}\ndbname={DATABASE}\n"
    )
    files = {name: folder / name for name in ("passfile", "servicefile")}
    return vars(guarded) | files | {"encoded_folder": quote(str(guarded.postgres_folder), "")}


def environment(guarded, folder: Path, postgres: str, redis: str) -> dict[str, str]:
    """What a process gets to see: these two URLs."""
    known = fields(guarded, folder)
    url, variables = POSTGRES[postgres]
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("CALLBOARD_", "PG"))
    } | {
        "CALLBOARD_DATABASE_URL": url.format(**known),
        "CALLBOARD_REDIS_URL": REDIS[redis].format(**known),
        "CALLBOARD_SECRET_KEY": SECRET,
        "CALLBOARD_JOBS": "shop_jobs",
        **{name: value.format(**known) for name, value in variables.items()},
    }


def run(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words."""
    return subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def run_commands(env: dict[str, str], *commands: str) -> list[tuple[str, int, str, str]]:
    """Run commands of the command line; return each with its exit code, its stdout and its stderr."""
    done = run(env, "-c", COMMANDS, *commands)
    assert done.returncode == 0, done.stderr
    assert_no_secret(done.stdout + done.stderr)
    return json.loads(done.stdout)


def assert_no_secret(shown: str) -> None:
    """Neither the password is shown, nor its encoded form, nor a part of it."""
    for part in (
        PASSWORD,
        quote(PASSWORD, ""),
        quote(PASSWORD),
        "s:s",
        "s%3As",
        "w#r",
        "w%23r",
        "d +&",
        "d%20",
    ):
        assert part not in shown


#: The others differ from these by their URL alone, and are left to `make test-long`.
QUICK = ("TCP", "socket as host", "first host dead", "TLS", "password with raw @ and :")


@pytest.mark.parametrize(
    ("postgres", "redis"),
    [
        pytest.param(*pair, marks=() if set(pair) <= set(QUICK) else pytest.mark.long)
        for pair in [(one, "TCP") for one in POSTGRES] + [("TCP", one) for one in REDIS if one != "TCP"]
    ],
)
def test_a_url_works_by_every_command(guarded, tmp_path, postgres, redis):
    (tmp_path / "shop_jobs.py").write_text(JOBS)
    env = environment(guarded, tmp_path, postgres, redis)
    prepared = run_commands(env, "db upgrade", "config")
    enqueued = run(env, "-c", ENQUEUE)
    assert (enqueued.stdout, enqueued.returncode) == ("queued\n", 0), enqueued.stderr
    used = run_commands(env, "job enqueue add --args [1,2]", "job list", "doctor --json")
    for words, code, out, err in prepared + used:
        assert code == 0, (words, out, err)
    checks = {check["name"]: check for check in json.loads(used[-1][2])["checks"]}
    assert {checks[name]["status"] for name in ("settings", "postgres", "tables", "redis")} == {"ok"}, checks


@pytest.mark.parametrize(
    ("postgres", "redis"),
    [
        pytest.param("first host dead", "TCP", marks=pytest.mark.long),
        ("socket as host", "socket"),
    ],
)
def test_up_runs_a_job_over_the_url(guarded, tmp_path, postgres, redis):
    (tmp_path / "shop_jobs.py").write_text(JOBS)
    settings = {"PORT": "0", "PROCESSES": "1", "GRACE": "2s", "LOG_LEVEL": "debug"}
    env = environment(guarded, tmp_path, postgres, redis)
    given = env | {f"CALLBOARD_{name}": value for name, value in settings.items()}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "callboard", "up", "--json"],
            env=given,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        ran = run(env, "-c", WAIT)
        assert (ran.returncode, ran.stdout) == (0, "3\n"), ran.stderr + (tmp_path / "log").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=DEADLINE)
    assert_no_secret(out + (tmp_path / "log").read_text())


def test_the_api_serves_over_the_url(guarded, tmp_path):
    env = environment(guarded, tmp_path, "first host dead", "IPv6")
    assert run(env, "-m", "callboard", "db", "upgrade").returncode == 0
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "callboard", "run", "api"],
        env=env | {"CALLBOARD_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + DEADLINE
        answer = None
        while answer is None:
            assert time.monotonic() < deadline
            with suppress(httpx.HTTPError):
                answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
        assert answer.json()["checks"] == {"database": "ok", "migrations": "ok", "redis": "ok"}
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=DEADLINE)
    assert_no_secret(out)


@pytest.mark.parametrize("postgres", POSTGRES)
def test_the_listener_and_the_leader_use_the_same_address(guarded, tmp_path, monkeypatch, postgres):
    env = environment(guarded, tmp_path, postgres, "TCP")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with closing(Database(sqlalchemy_url(env["CALLBOARD_DATABASE_URL"]))) as database:
        leadership = Leadership(database)
        with listening(database) as notices:
            assert notices(0.01) == set()
            assert leadership.take()
            leadership.verify()
            leadership.release()


@pytest.mark.parametrize(
    ("parameters", "variables", "threshold"),
    [
        ("", {}, "12"),
        ("?options=-cgeqo_threshold%3D7%20-c%20search_path%3Dx", {}, "7"),
        ("", {"PGOPTIONS": "-c geqo_threshold=8"}, "8"),
        ("?options=-cgeqo_threshold%3D7", {"PGOPTIONS": "-c geqo_threshold=8"}, "7"),
        ("?options=-c%20timezone%3DAsia/Tokyo%20-c%20enable_seqscan%3Don", {}, "12"),
    ],
)
def test_options_of_the_user_are_added_to_ours(guarded, monkeypatch, parameters, variables, threshold):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    url = f"postgresql://{ACCOUNT}@127.0.0.1:{guarded.postgres_port}/{NAME}{parameters}"
    names = ("geqo_threshold", "search_path", "timezone", "enable_seqscan", "jit")
    with closing(Database(sqlalchemy_url(url))) as database, database.autocommit() as connection:
        found = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]
    assert found == [threshold, "pg_catalog, pg_temp", "UTC", "off", "off"]


def test_parameters_of_the_url_come_before_ours(guarded, monkeypatch):
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    url = f"postgresql://{ACCOUNT}@127.0.0.1:{guarded.postgres_port}/{NAME}?application_name=shop&keepalives_idle=99"
    with closing(Database(sqlalchemy_url(url))) as database, database.autocommit() as connection:
        found = connection.connection.driver_connection.info.get_parameters()
    names = ("application_name", "keepalives_idle", "keepalives_interval", "connect_timeout")
    assert [found[name] for name in names] == ["shop", "99", "5", "3"]


@pytest.mark.parametrize(
    ("start", "address"),
    [
        ("127.0.0.1:{postgres_port}/", "127.0.0.1:{postgres_port}/"),
        ("{encoded_folder}:{postgres_port}/", "{postgres_folder}:{postgres_port}/"),
        (f"{DEAD},[::1]:{{postgres_port}}/", f"{DEAD} or [::1]:{{postgres_port}}/"),
    ],
)
def test_a_wrong_password_is_an_error_that_names_the_address(guarded, tmp_path, start, address):
    known = fields(guarded, tmp_path)
    wrong = ACCOUNT.replace("%23", "%24")
    env = environment(guarded, tmp_path, "TCP", "TCP") | {
        "CALLBOARD_DATABASE_URL": f"postgresql://{wrong}@{start.format(**known)}{NAME}"
    }
    told = run_commands(env | {"CALLBOARD_PORT": "0"}, "db upgrade", "up", "doctor", "config")
    assert [code for _, code, _, _ in told] == [7, 7, 1, 0]
    message = f"Postgres does not answer at {address.format(**known)}{DATABASE}: "
    for words, _, out, err in told[:3]:
        assert message in " ".join((out + err).split()), words
    assert "w$r" not in str(told)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            f"redis://{ACCOUNT}x@127.0.0.1:{{valkey_port}}/0",
            "invalid username-password pair or user is disabled",
        ),
        ("redis://127.0.0.1:{valkey_port}/0", "Authentication required"),
        (f"rediss://{ACCOUNT}@localhost:{{valkey_tls_port}}/0", "certificate verify failed"),
        (f"rediss://{ACCOUNT}@localhost:{{valkey_tls_port}}/0?ssl_ca_certs=/nowhere.pem", "No such file"),
        (f"redis://{ACCOUNT}@127.0.0.1:{{valkey_port}}/99", "DB index is out of range"),
    ],
)
def test_a_redis_that_refuses_us_is_an_error_without_the_password(guarded, tmp_path, url, problem):
    transport = Transport(url.format(**fields(guarded, tmp_path)))
    with closing(transport), pytest.raises(Unavailable, match=problem) as caught:
        transport.check()
    assert_no_secret(caught.value.message)
