"""`callboard`: the command line. A command's module is imported when it is called, or when its help is shown."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import FrameType, MappingProxyType
from typing import Any, Final, NoReturn

import click

from callboard.cli.console import error_lines

#: Where each command lives, in the order of `callboard --help`.
COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "up": "callboard.cli.up:up",
        "run": "callboard.cli.run_commands:run",
        "db": "callboard.cli.db_commands:db",
        "job": "callboard.cli.job.job_commands:job",
        "queue": "callboard.cli.queue_commands:queue",
        "schedule": "callboard.cli.schedule_commands:schedule",
        "webhook": "callboard.cli.webhook_commands:webhook",
        "worker": "callboard.cli.worker_commands:worker",
        "key": "callboard.cli.key_commands:key",
        "doctor": "callboard.cli.doctor:doctor",
        "config": "callboard.cli.config_commands:config",
    }
)
#: Help is written for this many columns, on every terminal the same.
HELP_WIDTH: Final = 80


class Program(click.Group):
    """The group of all commands: loads them late, and ends every failure in one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def main(  # type: ignore[override]  # this one always exits
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        extra.pop("standalone_mode", None)
        try:
            code = super().main(args, prog_name or "callboard", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        # The last stop of every failure: what nobody handled is told in one line, whatever it is.
        except Exception as error:  # noqa: BLE001
            code = error_lines.report(error)
        sys.exit(code if isinstance(code, int) else error_lines.OK)


def _version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's signature
    if wanted:
        from importlib.metadata import version

        click.echo(f"callboard {version('callboard')}")
        ctx.exit()


@click.command(
    "callboard",
    cls=Program,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": HELP_WIDTH,
        "terminal_width": HELP_WIDTH,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Background jobs that are not lost: durable in Postgres, run by Dramatiq.

    'callboard up' starts all of it here. Settings come from CALLBOARD_* variables
    and callboard.toml; 'callboard config' shows them.
    """


def main() -> NoReturn:
    """Run one command. A command that is terminated tidies up first."""
    signal.signal(signal.SIGTERM, _terminate)
    # Closed streams (a cron line's >&-) are no reason not to do the work.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123 - for as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character gets '?', not a traceback
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    cli.main()


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(error_lines.TERMINATED)


if __name__ == "__main__":
    main()
