"""The data folder: made where the settings say, or a settings error."""

from pathlib import Path
from typing import Final

from callboard.jobs.errors import InvalidInput

_KEY: Final = "CALLBOARD_DATA_DIR"


def make_data_dir(path: Path) -> None:
    """Have the data folder, out of sight of git when it is new; raises InvalidInput when it cannot be there."""
    try:
        if path.is_dir():
            return
        path.mkdir(parents=True, exist_ok=True)
        (path / ".gitignore").write_text("*\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput(
            f"{_KEY}: {path} cannot be made ({reason}); name a folder that you may write to",
            fields={_KEY: reason},
        ) from error
