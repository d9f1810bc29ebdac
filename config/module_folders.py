"""The modules of CALLBOARD_JOBS: there is one, and where they are found besides the installed packages."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from callboard.jobs.errors import InvalidInput

#: A project may have its packages in this folder.
_SOURCES: Final = "src"


def module_folders(folder: Path) -> list[str]:
    """Return the working folder, and its `src` if there is one. They come last, so they shadow no module."""
    return [str(place) for place in (folder, folder / _SOURCES) if place.is_dir()]


def check_named(modules: Collection[str]) -> None:
    """Raise InvalidInput unless CALLBOARD_JOBS names a module."""
    if not modules:
        raise InvalidInput(
            "CALLBOARD_JOBS names no module that defines jobs (for example: CALLBOARD_JOBS=myapp.jobs);"
            " 'callboard init' writes a first one"
        )
