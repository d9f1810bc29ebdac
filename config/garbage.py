"""Garbage collection of a process that is to answer within milliseconds."""

import gc
from typing import Final

#: Objects made, and not yet let go, between two collections: a batch of jobs is thousands, and no garbage.
_COLLECT_AFTER: Final = 20_000


def settle() -> None:
    """What is loaded by now stays: no collection need look at it again, which would stop everybody for 60 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
