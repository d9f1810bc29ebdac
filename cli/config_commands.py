"""`callboard config`: show the settings in force."""

from dataclasses import asdict
from typing import Final

import click

from callboard.cli.console.options import json_option
from callboard.cli.console.output import Column, print_items, print_table

_COLUMNS: Final = (Column("KEY"), Column("VALUE", fold=True), Column("SOURCE"))


@click.command()
@json_option
def config(*, as_json: bool) -> None:
    """Show the settings in force, and where each value came from."""
    from callboard.config.setting_lines import explain
    from callboard.config.settings import load_settings

    lines = explain(load_settings())
    if as_json:
        print_items(asdict(line) for line in lines)
    else:
        print_table(_COLUMNS, [(line.key, line.value or "-", line.source) for line in lines], empty="")
