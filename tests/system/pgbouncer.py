"""Debian's PgBouncer in transaction mode, as a private process in front of a Postgres."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from callboard.config.embedded.account import Account
from tests.system.debian_servers import free_port, running


@dataclass
class PgBouncer:
    """A running PgBouncer, and the URL of the database through it."""

    url: str
    process: "subprocess.Popen[bytes]"
    configuration: Path
    settings: Mapping[str, object]

    def lead_to(self, database_url: str) -> None:
        """Use this server from now on."""
        self.configuration.write_text(_configuration(database_url, self.settings))
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def pgbouncer(database_url: str, *, sessions: int = 20, **settings: object) -> Iterator[PgBouncer]:
    """Run a PgBouncer in front of this database.

    sessions: how many sessions at Postgres all clients share.
    settings: further lines of its configuration.
    """
    parts = urlsplit(database_url)
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="callboard-pgbouncer-"))
    folder.chmod(0o711)
    account = Account.for_postgres()
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": folder / "users",
        "pool_mode": "transaction",
        "default_pool_size": sessions,
        "max_client_conn": 200,
        **settings,
    }
    configuration = folder / "pgbouncer.ini"
    (folder / "users").write_text(f'"{parts.username}" "{parts.password}"\n')
    configuration.write_text(_configuration(database_url, lines))
    for path in folder.iterdir():
        os.chown(path, account.uid, account.gid)
    url = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    assert program is not None, "Debian's package pgbouncer is not installed"
    try:
        command: list[str | Path] = [*account.prefix([folder]), program, configuration]
        with running(command, folder, lambda: psycopg.connect(url).close(), signal.SIGINT) as process:
            yield PgBouncer(url, process, configuration, lines)
    finally:
        shutil.rmtree(folder)


def _configuration(database_url: str, lines: Mapping[str, object]) -> str:
    parts = urlsplit(database_url)
    target = f"host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password}"
    settings = "".join(f"{name} = {value}\n" for name, value in lines.items())
    return f"[databases]\n* = {target}\n\n[pgbouncer]\n{settings}"
