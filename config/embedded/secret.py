"""The key that encrypts stored secrets."""

import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from callboard.config.embedded.folder import make_data_dir
from callboard.config.settings import Settings
from callboard.jobs.errors import InvalidInput

_FILE: Final = "secret.key"


def secret_key(settings: Settings) -> str:
    """Return CALLBOARD_SECRET_KEY, or the key in the data folder, which is created on first use.

    Raise InvalidInput if the setting is missing and the database is not the embedded one.
    """
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value()
    if settings.database_url is not None:
        raise InvalidInput(
            "CALLBOARD_SECRET_KEY is required together with CALLBOARD_DATABASE_URL, the same for every"
            " process; create one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            fields={"CALLBOARD_SECRET_KEY": "required"},
        )
    path = settings.data_dir / _FILE
    if not path.exists():
        _make(path)
    key = path.read_text().strip()
    if not key:
        raise InvalidInput(
            f"{path} is empty: remove it to get a new key (secrets that the old key encrypted are lost)"
        )
    return key


def _make(path: Path) -> None:
    """Write a new key. If several processes do so at once, the first one wins and all read its key."""
    make_data_dir(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{_FILE}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
    finally:
        Path(name).unlink()
