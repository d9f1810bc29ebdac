"""Imports the modules that define jobs, and names the one that fails."""

from collections.abc import Collection
from importlib import import_module

from callboard.config.module_folders import check_named
from callboard.jobs.dramatiq.import_faults import naming_faults
from callboard.jobs.errors import InvalidInput
from callboard.workers.boot_report import IMPORTING, BootReport


def import_jobs(modules: tuple[str, ...], report: BootReport) -> None:
    """Import the modules that define jobs.

    Raises InvalidInput that names a module that cannot be imported, and the line of the fault.
    """
    check_named(modules)
    for name in modules:
        report.begin(f"{IMPORTING} the module {name!r} of CALLBOARD_JOBS")
        with naming_faults(f"CALLBOARD_JOBS: the module {name!r} cannot be imported"):
            import_module(name)


def check_jobs(found: Collection[str], modules: tuple[str, ...]) -> None:
    """Raise InvalidInput when the modules define no job: a worker without jobs would only look healthy."""
    if not found:
        raise InvalidInput(
            f"CALLBOARD_JOBS: {', '.join(modules)} can be imported, but no job is defined there: no function"
            " is decorated with @job or @dramatiq.actor, or a package does not import its modules with jobs;"
            " name the modules that define jobs"
        )
