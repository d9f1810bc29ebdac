"""Modules that libraries find, and that the processes of a server never use."""

import importlib
import subprocess
import sys

import pytest

from callboard.cli.console.unused_modules import UNUSED_BY_SERVERS, left_out


def test_a_module_that_is_left_out_cannot_be_imported_in_the_block_and_can_be_after_it():
    with left_out("wave"), pytest.raises(ImportError):
        importlib.import_module("wave")
    assert importlib.import_module("wave").open


def test_a_module_that_is_loaded_already_stays():
    before = importlib.import_module("json")
    with left_out("json"):
        assert importlib.import_module("json") is before
    assert sys.modules["json"] is before


def test_an_error_in_the_block_hides_nothing_for_good():
    with pytest.raises(ZeroDivisionError), left_out("plistlib"):
        raise ZeroDivisionError
    assert importlib.import_module("plistlib").loads


@pytest.mark.parametrize("role", ["api", "scheduler", "worker"])
def test_a_server_loads_none_of_them_and_can_still_import_rich(role):
    program = f"""
import sys
from callboard.cli import run_commands

def stop(process, *_):
    loaded = [name for name in {UNUSED_BY_SERVERS!r} if name in sys.modules]
    import rich.console
    print(loaded, process.__module__)

run_commands._serve = stop
run_commands.run([{role!r}], standalone_mode=False)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("[] callboard."), done.stdout
