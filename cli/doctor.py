"""`callboard doctor`: find what keeps the platform from working, and how to fix it."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson

from callboard.cli.console.options import json_option
from callboard.cli.console.output import print_json, print_rich, state_text
from callboard.cli.console.text import count, one_line
from callboard.config.module_folders import module_folders
from callboard.jobs.errors import CallboardError

if TYPE_CHECKING:
    from callboard.config.settings import Settings
    from callboard.jobs.operate.health import Check
    from callboard.jobs.platform import Platform


#: The checks without which no table can be read.
_TABLES: Final = ("postgres", "tables")
_NO_START: Final = "no worker can start with these modules: correct them first"
_OTHERWISE: Final = "docs/how-to/dramatiq.md says what to use in its place"
#: How long the import of the modules may take. Seconds.
_LONGEST: Final = 60
#: At most so many problems of rows are listed.
_MAX_ROWS: Final = 20
_MEND: Final = "correct the row in Postgres; docs/how-to/rows.md says what each column may hold"


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Find what keeps the platform from working, and how to fix it.

    Exits with 1 if a check fails.
    """
    checks: list[Check] = []
    for check in _checks():
        checks.append(check)
        if not as_json:
            _print(check)
    failed = any(check.status == "fail" for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    if failed:
        raise click.exceptions.Exit(1)


def _checks() -> Iterator["Check"]:
    from callboard.cli.console.runtime import build_platform, direct_database, quiet_settings
    from callboard.config.embedded import secret_key, servers
    from callboard.jobs.operate.health import Check, HealthChecks

    try:
        settings = quiet_settings()
    except CallboardError as error:
        yield Check("settings", "fail", error.message, "'callboard config' lists all settings")
        return
    yield Check("settings", "ok", "read")
    yield from _imports(settings)
    try:
        secret_key(settings)
    except CallboardError as error:
        yield Check("secret key", "fail", error.message)
    try:
        with servers(settings) as urls:
            platform = build_platform(settings, urls)
            direct = direct_database(urls) if settings.database_direct_url else None
            try:
                readable = True
                health = HealthChecks(platform.database, urls.redis_url, platform.migrations, direct=direct)
                for check in health.checks():
                    readable = readable and not (check.name in _TABLES and check.status == "fail")
                    yield check
                if readable:
                    yield from _rows(platform)
            finally:
                platform.close()
                if direct:
                    direct.close()
    except CallboardError as error:
        yield Check("servers", "fail", error.message)


def _rows(platform: "Platform") -> Iterator["Check"]:
    from callboard.jobs.operate.health import Check

    found = platform.inspection.problems()
    for problem in found[:_MAX_ROWS]:
        yield Check("rows", "warn", str(problem), _MEND)
    if len(found) > _MAX_ROWS:
        yield Check("rows", "warn", f"and {len(found) - _MAX_ROWS} more problems of rows", _MEND)


def _imports(settings: "Settings") -> Iterator["Check"]:
    from callboard.jobs.operate.health import Check

    folder = Path.cwd()
    missing = _missing(settings.jobs, folder)
    if missing:
        yield Check(
            "modules", "fail", f"CALLBOARD_JOBS names modules that are not found: {', '.join(missing)}",
            f"install them, or start workers in their folder (this is {folder})",
        )  # fmt: skip
    elif not settings.jobs:
        yield Check(
            "modules", "warn", "CALLBOARD_JOBS is empty: no worker can start here",
            "set it to the modules that define jobs, such as shop.jobs,mail.jobs",
        )  # fmt: skip
    else:
        yield from _trial(", ".join(settings.jobs))


def _trial(modules: str) -> Iterator["Check"]:
    """Import the modules as a worker does, in a process of its own."""
    from callboard.jobs.operate.health import Check

    command = [sys.executable, "-P", "-m", "callboard.workers.trial"]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST, check=True
        )
    except subprocess.TimeoutExpired:
        yield Check("modules", "fail", f"the import of {modules} takes longer than {_LONGEST} s", _NO_START)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        told = f"the import of {modules} ended its process with exit code {error.returncode}: {last}"
        yield Check("modules", "fail", told, _NO_START)
    else:
        found = orjson.loads(done.stdout)
        if found["problem"]:
            yield Check("modules", "fail", found["problem"], _NO_START)
            return
        yield Check("modules", "ok", f"{count(found['jobs'], 'job')} from {modules}")
        for what, reason in found["not_honoured"]:
            yield Check("program", "warn", f"a worker does not honour {what}: {reason}", _OTHERWISE)


def _missing(modules: Sequence[str], folder: Path) -> list[str]:
    """Return the modules whose top-level package cannot be found."""
    search_path = [*sys.path, *module_folders(folder)]
    return [name for name in modules if PathFinder.find_spec(name.partition(".")[0], search_path) is None]


def _print(check: "Check") -> None:
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=4)
    line.add_column(width=10)
    line.add_column(overflow="fold")
    line.add_row(state_text(check.status), check.name, Text(one_line(check.message)))
    if check.mend:
        line.add_row("", "", Text(one_line(check.mend), style="bright_black"))
    print_rich(line)
