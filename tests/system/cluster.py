"""Debian's Postgres as a primary and a synchronous standby, which can take the primary's place."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from callboard.config.embedded.account import Account
from tests.system.debian_servers import USER, free_port, newest_postgres, running

_STANDBY = "standby"
#: The disk is not what these tests try, except for the order of writes.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
}


@dataclass
class Cluster:
    """Two servers. Clients have both in their URL."""

    folder: Path
    password: str
    ports: tuple[int, int]
    primary: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"postgresql://{USER}:{self.password}@{hosts}/postgres"

    def one(self, number: int) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.ports[number]}/postgres"

    def fail_over(self) -> None:
        """Kill the primary as a crash does, and let the standby take its place."""
        self.primary.kill()
        self.primary.wait()
        account = Account.for_postgres()
        command = [*account.prefix([self.folder]), str(newest_postgres() / "pg_ctl"), "promote", "--wait"]
        subprocess.run(
            [*command, "-D", self.folder / "second"], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )
        with psycopg.connect(self.one(1), autocommit=True) as admin:
            # Nobody stands by the new primary.
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            admin.execute("SELECT pg_reload_conf()")


@contextmanager
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="callboard-cluster-"))
    folder.chmod(0o711)
    account = Account.for_postgres()
    os.chown(folder, account.uid, account.gid)
    programs, password = newest_postgres(), secrets.token_hex(16)
    prefix = account.prefix([folder])

    def run(*words: "str | Path") -> None:
        environment = os.environ | {"PGPASSWORD": password}
        subprocess.run([*prefix, *words], check=True, cwd=folder, stdout=subprocess.DEVNULL, env=environment)

    def server(data: Path, port: int) -> "list[str | Path]":
        settings = _SETTINGS | {"port": str(port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*prefix, programs / "postgres", "-D", data, *options]

    try:
        with ExitStack() as opened:
            (folder / "password").write_text(password)
            (folder / "password").chmod(0o644)
            ports = (free_port(), free_port())
            first, second = folder / "first", folder / "second"
            run(
                programs / "initdb", "-D", first, f"--username={USER}", "--no-sync", "--encoding=UTF8",
                "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}",
            )  # fmt: skip
            made = Cluster(folder, password, ports, None)  # type: ignore[arg-type]
            made.primary = opened.enter_context(
                running(
                    server(first, ports[0]),
                    folder,
                    lambda: psycopg.connect(made.one(0)).close(),
                    signal.SIGINT,
                )
            )
            run(
                programs / "pg_basebackup", "-D", second, "-R", "-X", "stream", "--no-sync", "-c", "fast",
                "-d", f"{made.one(0)}?application_name={_STANDBY}",
            )  # fmt: skip
            standby = folder / "standby"
            standby.mkdir()
            opened.enter_context(
                running(
                    server(second, ports[1]),
                    standby,
                    lambda: psycopg.connect(made.one(1)).close(),
                    signal.SIGINT,
                )
            )
            with psycopg.connect(made.one(0), autocommit=True) as admin:
                admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{_STANDBY}'")
                admin.execute("SELECT pg_reload_conf()")
            yield made
    finally:
        shutil.rmtree(folder)
