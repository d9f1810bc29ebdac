"""The user account that runs a server. Postgres refuses to run as root, so root starts it as `nobody`."""

import os
import pwd
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from callboard.jobs.errors import Unavailable

_NOBODY: Final = "nobody"
# a bit of the capability sets, from linux/capability.h
_READ_SEARCH: Final = 2


@dataclass(frozen=True, slots=True)
class Account:
    """A user account of this machine."""

    uid: int
    gid: int
    name: str

    @classmethod
    def own(cls) -> Self:
        """Return the account of this process; raise Unavailable if it has no name."""
        uid = os.geteuid()
        try:
            return cls(uid, os.getegid(), pwd.getpwuid(uid).pw_name)
        except KeyError:
            raise Unavailable(
                f"embedded servers need a user with a name, but user {uid} has none: add it to /etc/passwd, "
                "or set CALLBOARD_DATABASE_URL and CALLBOARD_REDIS_URL"
            ) from None

    @classmethod
    def for_postgres(cls) -> Self:
        """Return the account for Postgres: that of this process, or `nobody` for root."""
        if os.geteuid() != 0:
            return cls.own()
        try:
            entry = pwd.getpwnam(_NOBODY)
        except KeyError:
            raise Unavailable(
                f"root cannot start the embedded Postgres without the user {_NOBODY!r}: run as another user, "
                "or set CALLBOARD_DATABASE_URL"
            ) from None
        return cls(entry.pw_uid, entry.pw_gid, entry.pw_name)

    def prefix(self, paths: Iterable[Path]) -> tuple[str, ...]:
        """Return the words to put before a command so that it runs as this account and can reach `paths`.

        They are empty unless this process is root and the account is not. If a parent folder is closed to the
        account, as root's home is, the command gets a capability to search it. No file permission changes.
        """
        if self.uid == os.geteuid():
            return ()
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise Unavailable(
                "root cannot start the embedded Postgres without the command `setpriv`: install util-linux, "
                "run as another user, or set CALLBOARD_DATABASE_URL"
            )
        words = (setpriv, f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")
        if all(self._reaches(path) for path in paths):
            return words
        # root in a container often has only dac_override, the wider of the two
        power = "dac_read_search" if _effective_capabilities() >> _READ_SEARCH & 1 else "dac_override"
        return (*words, f"--inh-caps=+{power}", f"--ambient-caps=+{power}")

    def _reaches(self, path: Path) -> bool:
        for folder in path.resolve().parents:
            status = folder.stat()
            bit = 0o100 if status.st_uid == self.uid else 0o010 if status.st_gid == self.gid else 0o001
            if not status.st_mode & bit:
                return False
        return True


def closed_folder(path: Path, owner: Account) -> None:
    """Create a folder, or take an existing one, that only `owner` can open.

    Raise Unavailable if the path is a link, no folder, or belongs to another user.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not path.is_dir() or path.is_symlink() or status.st_uid not in {owner.uid, os.geteuid()}:
        raise Unavailable(
            f"{path} is not a folder of user {owner.name!r}: remove it, or choose another data folder"
        )
    if status.st_uid != owner.uid:
        os.chown(path, owner.uid, owner.gid)
    path.chmod(0o700)


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
