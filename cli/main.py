"""`callboard`: the command line. A command's module is imported only when it runs or shows its help."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import FrameType, MappingProxyType
from typing import Any, Final, NoReturn

import click

from callboard.cli.console import error_lines
from callboard.config import garbage

#: The module and name of each command, in the order of `callboard --help`.
COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "up": "callboard.cli.up:up",
        "init": "callboard.cli.init:init",
        "run": "callboard.cli.run_commands:run",
        "db": "callboard.cli.db_commands:db",
        "job": "callboard.cli.job.job_commands:job",
        "export": "callboard.cli.job.export_command:export",
        "queue": "callboard.cli.queue_commands:queue",
        "schedule": "callboard.cli.schedule_commands:schedule",
        "webhook": "callboard.cli.webhook_commands:webhook",
        "worker": "callboard.cli.worker_commands:worker",
        "key": "callboard.cli.key_commands:key",
        "doctor": "callboard.cli.doctor:doctor",
        "config": "callboard.cli.config_commands:config",
    }
)
#: Help texts have this width on every terminal.
HELP_WIDTH: Final = 80


class Program(click.Group):
    """The group of all commands. It loads them lazily; each error becomes one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        path = COMMANDS.get(cmd_name)
        if path is None:
            return None
        module, _, name = path.partition(":")
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
        # Every error that nothing else handled ends here and is printed on one line.
        except Exception as error:  # noqa: BLE001
            code = error_lines.report(error)
        sys.exit(code if isinstance(code, int) else error_lines.OK)


def _version(
    ctx: click.Context,
    _option: click.Parameter,
    wanted: bool,  # noqa: FBT001 - click's signature
) -> None:
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
    """Background jobs that are never lost: stored in Postgres, run by Dramatiq.

    'callboard up' starts the whole platform here. Settings come from CALLBOARD_*
    variables and callboard.toml; 'callboard config' shows them.
    """


def main() -> NoReturn:
    """Run one command and exit. SIGTERM raises SystemExit, which lets the command clean up first."""
    garbage.collect_rarely()
    signal.signal(signal.SIGTERM, _terminate)
    # A command must also work with closed streams (`>&-` in a crontab).
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115, PTH123 - open until the process exits
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character prints '?' instead of failing
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        cli.main()
    finally:
        garbage.leave_all()


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(error_lines.TERMINATED)


if __name__ == "__main__":
    main()
