"""`callboard run`: one process of the platform, in the foreground."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from callboard.config.embedded import ServerUrls
    from callboard.config.settings import Settings

#: A process of the platform: runs until it is told to stop, returns its exit code.
Process = Callable[["Settings", "ServerUrls"], int]


@click.group()
def run() -> None:
    """Run one process of the platform, until Ctrl-C or SIGTERM."""


@run.command()
def api() -> None:
    """Serve HTTP: jobs, queues, schedules, webhooks."""
    from callboard.api.api_process import run as process

    _serve(process)


@run.command()
def worker() -> None:
    """Run jobs.

    CALLBOARD_PROCESSES children with CALLBOARD_THREADS threads each run the jobs of
    CALLBOARD_JOBS from the queues of CALLBOARD_QUEUES.
    """
    from callboard.workers.worker_process import run as process

    _serve(process)


@run.command()
def scheduler() -> None:
    """Decide when: schedules, due jobs, retries, dead workers.

    Any number may run; one leads, the others stand by.
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
