"""The cases: one file per subject. Each file exports CASES."""

import pkgutil
from importlib import import_module

from benchmarks.harness import Case


def every() -> list[Case]:
    """Return all cases, in the order of the file names."""
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return [case for module in modules for case in getattr(module, "CASES", ())]
