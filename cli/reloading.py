"""`callboard run worker --reload`: a worker that restarts when the code of its jobs changes."""

import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from callboard.config.module_folders import module_folders
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.durations import exact_duration

if TYPE_CHECKING:
    from watchfiles import Change

#: Running jobs have this time to end before a restart, unless CALLBOARD_GRACE is shorter.
_GRACE: Final = timedelta(seconds=5)
#: After the grace period, the worker needs this long to kill jobs that do not stop. Seconds.
_KILL_MARGIN: Final = 10

log = structlog.get_logger(__name__)


def run_reloading(options: Mapping[str, str | int]) -> None:
    """Run a worker until Ctrl-C or SIGTERM; restart it when a Python file of the jobs' packages changes.

    A worker that ends by itself, such as after a syntax error, is started again after the next change.
    options: settings that the command line gives, by key. Raises Unavailable without watchfiles.
    """
    check_watchfiles()
    from watchfiles import PythonFilter, run_process

    from callboard.cli.console.runtime import server_settings
    from callboard.config.embedded import servers

    settings = server_settings(options)
    grace = min(settings.grace, _GRACE)
    os.environ["CALLBOARD_GRACE"] = exact_duration(grace)
    flags = [f"--{key}={value}" for key, value in options.items()]
    paths = watched(settings.jobs, Path.cwd())
    # Its lines say less than `worker.reloading` and what the worker logs.
    logging.getLogger("watchfiles").setLevel(logging.ERROR)
    log.info("worker.watching", folders=[str(path) for path in paths])
    # The embedded servers run on while the worker restarts.
    with servers(settings):
        run_process(
            *paths,
            # -P: a `callboard` folder in the working directory must not shadow this package
            target=shlex.join([sys.executable, "-P", "-m", "callboard", "run", "worker", *flags]),
            target_type="command",
            callback=_report,
            watch_filter=PythonFilter(ignore_paths=[str(settings.data_dir)]),
            debounce=200,
            sigint_timeout=int(grace.total_seconds()) + _KILL_MARGIN,
        )


def check_watchfiles() -> None:
    """Raise Unavailable unless watchfiles is installed."""
    try:
        import watchfiles  # noqa: F401 - whether it can be imported
    except ModuleNotFoundError:
        raise Unavailable(
            "--reload needs watchfiles, which is not installed: pip install 'callboard[reload]'"
        ) from None


def watched(modules: Sequence[str], folder: Path) -> list[Path]:
    """Return the folders of the modules' top-level packages; the working folder for what is not found."""
    found: dict[Path, None] = {}
    for module in modules:
        spec = PathFinder.find_spec(module.partition(".")[0], [*sys.path, *module_folders(folder)])
        places = list(spec.submodule_search_locations or ()) if spec else []
        if spec and not places and spec.origin:
            places = [str(Path(spec.origin).parent)]
        found.update(dict.fromkeys(Path(place).resolve() for place in places or [str(folder)]))
    return list(found) or [folder]


def _report(changes: "set[tuple[Change, str]]") -> None:
    log.info("worker.reloading", files=sorted(path for _, path in changes)[:10])
