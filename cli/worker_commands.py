"""`callboard worker`: list the workers."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from callboard.cli.console.options import json_option
from callboard.cli.console.output import Column, print_items, print_table, state_text
from callboard.cli.console.text import ago
from callboard.jobs.model.basics.clock import SYSTEM

if TYPE_CHECKING:
    from datetime import datetime

    from callboard.jobs.attempts.worker import Worker

_COLUMNS: Final = (
    Column("ID"),
    Column("STATE"),
    Column("PROCESS", cut=True),
    Column("QUEUES", wide=True, cut=True),
    Column("RUNNING", right=True),
    Column("CLAIMED", right=True),
    Column("STARTED"),
)


@click.group()
def worker() -> None:
    """List the workers that run jobs."""


@worker.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List the workers that hold a lease.

    RUNNING counts jobs that have begun, CLAIMED those that the worker holds ahead.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.platform.workers.live()
    now = SYSTEM.now()
    if as_json:
        print_items(asdict(each) | {"state": _state(each, now)} for each in found)
        return
    rows = [
        (
            str(each.id),
            state_text(_state(each, now)),
            f"{each.pid}@{each.hostname}",
            ", ".join(each.queues) or "all",
            f"{each.running}",
            f"{each.claimed}",
            ago(each.started_at, now),
        )
        for each in found
    ]
    print_table(_COLUMNS, rows, empty="no worker is running; start one with 'callboard run worker'")


def _state(worker: "Worker", now: "datetime") -> str:
    if worker.lease_expires_at <= now:
        return "lost"
    return "draining" if worker.draining_since else "live"
