"""Where the modules of CALLBOARD_JOBS are found besides the installed packages."""

from pathlib import Path
from typing import Final

#: A project may have its packages in this folder.
_SOURCES: Final = "src"


def module_folders(folder: Path) -> list[str]:
    """Return the working folder, and its `src` if there is one. They come last, so they shadow no module."""
    return [str(place) for place in (folder, folder / _SOURCES) if place.is_dir()]
