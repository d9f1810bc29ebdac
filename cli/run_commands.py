"""`callboard run`: run one process of the platform in the foreground."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from callboard.config.embedded import ServerUrls
    from callboard.config.settings import Settings

#: A process of the platform: runs until a stop signal and returns the exit code.
Process = Callable[["Settings", "ServerUrls"], int]


@click.group()
def run() -> None:
    """Run one process of the platform until Ctrl-C or SIGTERM."""


@run.command()
def api() -> None:
    """Serve the HTTP API and receive webhooks."""
    from callboard.api.api_process import run as process

    _serve(process)


@run.command()
def worker() -> None:
    """Run jobs.

    CALLBOARD_JOBS names the modules that define jobs. CALLBOARD_QUEUES names the
    queues to serve. The worker has CALLBOARD_PROCESSES child processes with
    CALLBOARD_THREADS threads each.
    """
    from callboard.workers.worker_process import run as process

    _serve(process)


@run.command()
def scheduler() -> None:
    """Fire schedules, queue due jobs, rescue jobs of dead workers.

    Several may run: one is the leader, the others wait to take over.
    """
    from callboard.scheduler.scheduler_process import run as process

    _serve(process)


def _serve(process: Process) -> None:
    from callboard.cli.console.runtime import server_settings
    from callboard.config.embedded import servers

    settings = server_settings()
    with servers(settings) as urls:
        code = process(settings, urls)
    raise click.exceptions.Exit(code)
