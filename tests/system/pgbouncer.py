"""Debian's PgBouncer in transaction mode, as a private process in front of a Postgres."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from callboard.config.embedded.account import Account
from tests.system.debian_servers import PATIENCE, free_port


@contextmanager
def pgbouncer(database_url: str, *, sessions: int = 20, **settings: object) -> Iterator[str]:
    """Run a PgBouncer in front of this database, and yield the same database's URL through it.

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
    target = f"host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password}"
    (folder / "users").write_text(f'"{parts.username}" "{parts.password}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = {target}\n\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in lines.items())
    )
    for path in folder.iterdir():
        os.chown(path, account.uid, account.gid)
    url = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    assert program is not None, "Debian's package pgbouncer is not installed"
    with (folder / "log").open("wb") as out:
        command: list[str | Path] = [*account.prefix([folder]), program, folder / "pgbouncer.ini"]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                log = (folder / "log").read_text()
                assert process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder)
