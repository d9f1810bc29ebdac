"""Garbage collection settings for a process that must start, answer and end fast."""

import gc
from typing import Final

#: A collection starts after this many new objects. One batch of jobs makes thousands, and none is garbage.
_COLLECT_AFTER: Final = 20_000
#: The same while modules are loaded, and in short commands. Modules make up to 300,000 objects that stay, and
#: to scan 100,000 takes 70 ms.
_COLLECT_AFTER_AT_START: Final = 1_000_000


def collect_rarely() -> None:
    """Collect garbage rarely while the process loads its modules. Call it first.

    They make no garbage, so collections find nothing.
    """
    gc.set_threshold(_COLLECT_AFTER_AT_START)


def settle() -> None:
    """Exclude all objects that exist now from garbage collection: scanning them takes 60 ms.

    Call it once, when the process has loaded its modules.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def leave_all() -> None:
    """Exclude all objects from the collections that Python makes when it ends: they take 0.2 s.

    Call it last, and not where users' code runs: a file in a cycle of garbage loses what was not flushed.
    """
    gc.freeze()
