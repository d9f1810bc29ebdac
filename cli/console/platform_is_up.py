"""What `callboard up` prints when the platform is ready."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from callboard.config.settings import Settings


def ready_message(settings: "Settings", address: str) -> "RenderableType":
    """Return what to print when the platform is ready at this address: what runs here, and the next steps."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 3, 0, 0))
    facts.add_column(style="bright_black", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("api", Text(address, style="bold cyan"))
    facts.add_row(
        "database", "from CALLBOARD_DATABASE_URL" if settings.database_url else "Postgres, embedded"
    )
    facts.add_row("redis", "from CALLBOARD_REDIS_URL" if settings.redis_url else "Valkey, embedded")
    if not (settings.database_url and settings.redis_url):
        facts.add_row("data", str(settings.data_dir))
    facts.add_row("jobs", ", ".join(settings.jobs))
    facts.add_row("workers", f"{settings.processes} processes with {settings.threads} threads each")
    program = command_name()
    steps = Table.grid(padding=(0, 3, 0, 0))
    steps.add_column(style="bold", no_wrap=True)
    steps.add_column(style="bright_black")
    steps.add_row(f"{program} key create me --role admin", "create a key for HTTP")
    steps.add_row(f"{program} job enqueue NAME --args '{{...}}'", "enqueue a job; --wait waits for it")
    steps.add_row(f"{program} job list", "see what became of it")
    return Group(
        Text("\nCallboard is up.", style="bold green"),
        Padding(facts, (1, 0, 1, 2)),
        Text("In another terminal, in this folder:"),
        Padding(steps, (1, 0, 1, 2)),
        Text("Ctrl-C stops everything; a second Ctrl-C stops it faster.\n", style="bright_black"),
    )


def command_name() -> str:
    """Return how a shell calls this program: by its path when PATH does not have it, as after `make up`."""
    program = Path(sys.executable).with_name("callboard")
    if shutil.which("callboard") or not program.exists():
        return "callboard"
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)
