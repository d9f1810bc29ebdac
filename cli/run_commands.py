"""`callboard run`: run one process of the platform in the foreground."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import click

from callboard.cli.console.unused_modules import UNUSED_BY_SERVERS, left_out

if TYPE_CHECKING:
    from callboard.config.embedded import ServerUrls
    from callboard.config.settings import Settings

#: A process of the platform: runs until a stop signal and returns the exit code.
Process = Callable[["Settings", "ServerUrls"], int]


@click.group()
# `callboard up` loads the api while the workers start, and lets it listen when they know their jobs.
@click.option("--when-stdin-ends", is_flag=True, hidden=True, help="Let the api listen when its input ends.")
@click.pass_context
def run(context: click.Context, *, when_stdin_ends: bool) -> None:
    """Run one process of the platform until Ctrl-C or SIGTERM."""
    context.obj = when_stdin_ends


@run.command()
@click.pass_obj
def api(when_stdin_ends: bool) -> None:  # noqa: FBT001 - click's signature
    """Serve the HTTP API and receive webhooks."""
    with left_out(*UNUSED_BY_SERVERS):
        from callboard.api.api_process import run as process

    _serve(partial(process, before_listening=sys.stdin.read) if when_stdin_ends else process)


@run.command()
@click.option("--queues", metavar="Q,Q", help="Serve these queues only, in order of preference.")
@click.option("--processes", type=int, metavar="N", help="Number of child processes.")
@click.option("--threads", type=int, metavar="N", help="Number of threads of each child process.")
@click.option("--slots", type=int, metavar="N", help="Maximum number of jobs that a child process claims.")
@click.option("--reload", is_flag=True, help="For development: restart when the code of the jobs changes.")
def worker(*, reload: bool, **given: str | int | None) -> None:
    """Run jobs.

    CALLBOARD_JOBS names the modules that define jobs. The options override
    CALLBOARD_QUEUES, CALLBOARD_PROCESSES, CALLBOARD_THREADS and CALLBOARD_SLOTS.
    """
    options = {key: value for key, value in given.items() if value is not None}
    if reload:
        from callboard.cli.reloading import run_reloading

        run_reloading(options)
        return
    with left_out(*UNUSED_BY_SERVERS):
        from callboard.workers.worker_process import run as process

    _serve(process, options)


@run.command()
def scheduler() -> None:
    """Fire schedules, queue due jobs, rescue jobs of dead workers.

    Several may run: one is the leader, the others wait to take over.
    """
    with left_out(*UNUSED_BY_SERVERS):
        from callboard.scheduler.scheduler_process import run as process

    _serve(process)


def _serve(process: Process, options: Mapping[str, str | int] | None = None) -> None:
    from callboard.cli.console.runtime import server_settings
    from callboard.config.embedded import servers

    settings = server_settings(options)
    with servers(settings) as urls:
        code = process(settings, urls)
    raise click.exceptions.Exit(code)
