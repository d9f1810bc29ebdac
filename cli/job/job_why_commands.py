"""`callboard job why`: explain why a job is not running."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from callboard.cli.console.options import ID, json_option
from callboard.cli.console.output import print_card, print_json, state_text
from callboard.cli.console.text import one_line

if TYPE_CHECKING:
    from callboard.jobs.operate.why import Explanation


@click.command()
@click.argument("job_id", metavar="ID", type=ID)
@json_option
def why(*, job_id: UUID, as_json: bool) -> None:
    """Explain why a job is not running.

    Lists every reason that applies now, the most important first, with a way to fix it where there is one.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        explanation = runtime.platform.why.explain(job_id)
    if as_json:
        print_json(_object(explanation))
    else:
        _print_card(explanation)


def _object(explanation: "Explanation") -> dict[str, Any]:
    """Return the explanation's fields for JSON output. They are the fields that HTTP returns."""
    return {
        "job_id": str(explanation.job_id),
        "state": str(explanation.state),
        "reasons": [
            {"code": str(reason.code), "message": reason.message, "data": dict(reason.data)}
            for reason in explanation.reasons
        ],
    }


def _print_card(explanation: "Explanation") -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bright_black", justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for number, reason in enumerate(explanation.reasons, 1):
        grid.add_row(str(number), Text(one_line(reason.text), style="bold" if number == 1 else ""))
        if reason.mend:
            grid.add_row("", Text(one_line(reason.mend), style="green"))
    title = Text.assemble((one_line(explanation.name), "bold"), "  ", state_text(str(explanation.state)))
    print_card(title, grid, subtitle=str(explanation.job_id))
