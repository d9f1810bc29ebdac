"""Leave out modules that libraries load when they find them, and that a process never uses."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: What the api, the scheduler and a worker's supervisor never use. 7 MiB of the api, 4 of each other:
#: rich:        structlog's tracebacks in colour. Our log lines have their own format.
#: greenlet:    structlog's loggers for green threads.
#: pydantic.v1: FastAPI's check for models of pydantic's first version.
#: watchfiles:  uvicorn's reload. It is there only with the extra `reload`.
UNUSED_BY_SERVERS: Final = ("rich", "greenlet", "pydantic.v1", "watchfiles")


@contextmanager
def left_out(*modules: str) -> Iterator[None]:
    """Make the imports of these modules fail in the block, as if they were not installed.

    A module that is loaded already stays. After the block, each can be imported. For optional modules, and
    not where users' code runs: a library that was loaded in the block goes on without them.
    """
    absent = [name for name in modules if name not in sys.modules]
    # Python's own way: an import of a module whose entry is None fails.
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
