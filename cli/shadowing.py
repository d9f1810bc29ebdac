"""Packages of the user's that have the name of one of ours, and modules of jobs that are not to be found."""

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

import cli

OURS: Final = ("api", "cli", "config", "jobs", "scheduler", "workers")


def shadowed(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names of ours that also lie in the working folder or on the import path, with the place of the other one."""
    home = Path(cli.__file__).resolve().parent.parent
    for place in dict.fromkeys([folder, *map(Path, filter(None, sys.path))]):
        if not place.is_dir() or place.resolve() == home:
            continue
        for name in OURS:
            spec = PathFinder.find_spec(name, [str(place)])
            # a mere folder without code, as `config/` often is, hides nothing
            if spec is not None and spec.origin is not None:
                yield name, Path(spec.origin)


def missing(modules: Sequence[str], folder: Path) -> Iterator[str]:
    """Those modules of CALLBOARD_JOBS whose top-level package is not to be found."""
    places = [*sys.path, str(folder)]
    for module in modules:
        top = module.partition(".")[0]
        if top not in OURS and PathFinder.find_spec(top, places) is None:
            yield module
