"""Debian's own Postgres and Redis, as private servers on loopback ports. They are not the system's services.

As a program it runs a command with both servers: the command finds them in CALLBOARD_TEST_DATABASE_URL and
CALLBOARD_TEST_REDIS_URL.

    python -m tests.system.debian_servers pytest tests/unit tests/integration
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psycopg
import redis

from callboard.config.embedded import ServerUrls
from callboard.config.embedded.account import Account

PATIENCE = 60.0
USER = "callboard"
NOTHING: Mapping[str, str] = MappingProxyType({})
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "jit": "off",
    # the folder goes when the server stops
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


@dataclass(frozen=True)
class DebianServers:
    """Both servers, which run until the context of `debian_servers` ends."""

    urls: ServerUrls
    postgres: subprocess.Popen[bytes]
    redis: subprocess.Popen[bytes]


@contextmanager
def debian_servers(of_postgres: Mapping[str, str] = NOTHING) -> Iterator[DebianServers]:
    """Start both servers in a folder of their own, with passwords. The folder goes at the end.

    of_postgres: further variables of the environment of Postgres.
    """
    folder = Path(tempfile.mkdtemp(prefix="callboard-debian-"))
    # Postgres does not run as root: its account must get through to its own folder
    folder.chmod(0o711)
    try:
        with ExitStack() as running:
            database_url, postgres = running.enter_context(_postgres(folder / "postgres", of_postgres))
            redis_url, redis_server = running.enter_context(_redis(folder / "redis"))
            yield DebianServers(ServerUrls(database_url, redis_url), postgres, redis_server)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _postgres(folder: Path, variables: Mapping[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    programs = newest_postgres()
    account, password, port = Account.for_postgres(), secrets.token_hex(16), free_port()
    folder.mkdir(mode=0o700)
    (folder / "password").write_text(password)
    for path in (folder, folder / "password"):
        os.chown(path, account.uid, account.gid)
    data = folder / "data"
    as_account = account.prefix([data])
    initdb: list[str | Path] = [
        *as_account,
        programs / "initdb",
        "-D",
        data,
        f"--username={USER}",
        "--no-sync",
    ]
    initdb += [
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--auth=scram-sha-256",
        f"--pwfile={folder / 'password'}",
    ]
    subprocess.run(initdb, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    settings = POSTGRES_SETTINGS | {"port": str(port)}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    url = f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"
    command: list[str | Path] = [*as_account, programs / "postgres", "-D", data, *options]
    # SIGINT is Postgres' fast shutdown: it ends the sessions that are still open
    with running(command, folder, lambda: psycopg.connect(url).close(), signal.SIGINT, variables) as process:
        yield url, process


@contextmanager
def _redis(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    password, port = secrets.token_hex(16), free_port()
    folder.mkdir(mode=0o700)
    (folder / "redis.conf").write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\ndir "{folder}"\n'
    )
    url = f"redis://:{password}@127.0.0.1:{port}"

    def answers() -> None:
        with redis.Redis.from_url(url) as client:
            client.ping()

    program = shutil.which("redis-server", path="/usr/bin:/usr/local/bin")
    assert program is not None, "Debian's package redis-server is not installed"
    with running([program, folder / "redis.conf"], folder, answers, signal.SIGTERM) as process:
        yield url, process


@contextmanager
def running(
    command: Sequence[str | Path],
    folder: Path,
    answers: Callable[[], None],
    stop: signal.Signals,
    variables: Mapping[str, str] = NOTHING,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; `answers` raises until the server is ready."""
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answers()
                break
            except (psycopg.OperationalError, redis.RedisError):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def newest_postgres() -> Path:
    """Return the folder of the newest Postgres' programs, as Debian's packages lay them."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    folders = sorted((path.parent for path in found), key=lambda path: int(path.parent.name))
    assert folders, "Debian's package postgresql is not installed"
    return folders[-1]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main(command: Sequence[str]) -> int:
    """Run a command with both servers; return its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with debian_servers() as servers:
        urls = {
            "CALLBOARD_TEST_DATABASE_URL": servers.urls.database_url,
            "CALLBOARD_TEST_REDIS_URL": servers.urls.redis_url,
        }
        return subprocess.run(command, env=os.environ | urls, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
