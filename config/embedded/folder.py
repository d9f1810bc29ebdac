"""Create the data folder."""

from pathlib import Path
from typing import Final

from callboard.jobs.errors import InvalidInput

_KEY: Final = "CALLBOARD_DATA_DIR"


def make_data_dir(path: Path) -> None:
    """Create the data folder if it is missing; raise InvalidInput if that fails.

    A new folder gets a .gitignore that hides all of it from git.
    """
    try:
        if path.is_dir():
            return
        path.mkdir(parents=True, exist_ok=True)
        (path / ".gitignore").write_text("*\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput(
            f"{_KEY}: {path} cannot be created ({reason}); set it to a folder that you can write to",
            fields={_KEY: reason},
        ) from error
