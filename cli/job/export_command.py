"""`callboard export`: what waits, as messages for another Dramatiq broker."""

import click

from callboard.cli.console.output import note, print_json_line
from callboard.cli.console.text import count
from callboard.jobs.model.states import PENDING, JobState

_STATES = [str(state) for state in JobState if state in PENDING]


@click.command()
@click.option("--queue", metavar="QUEUE", help="Jobs in this queue.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_STATES),
    metavar="STATE",
    help=f"Jobs in this state; may be repeated. One of {', '.join(_STATES)}.",
)
def export(*, queue: str | None, states: tuple[str, ...]) -> None:
    """Print the jobs that wait as Dramatiq's messages.

    Each message is a line with a JSON object. Nothing is changed: pause the
    queues first, and cancel the jobs afterwards.

    \b
    callboard queue pause mail
    callboard export --queue mail > mail.ndjson
    """  # noqa: D301 - \b tells click to keep the lines
    from callboard.cli.console.runtime import open_runtime
    from callboard.jobs.operate.exporting import waiting_messages

    number = 0
    with open_runtime() as runtime:
        wanted = [JobState(state) for state in states]
        messages = waiting_messages(
            runtime.platform.database, queue=queue, states=wanted, app=runtime.settings.app
        )
        for message in messages:
            print_json_line(message)
            number += 1
    note(f"{count(number, 'message')} exported; the jobs are unchanged")
