"""Recognise gevent and eventlet, which replace threads and sockets by their own.

Under their replacements the worker's threads never run at the same time, and a job's interrupt reaches the
wrong thread. So a worker does not start, and one in which a job does it replaces itself.
"""

import sys
from typing import Final

from callboard.jobs.errors import InvalidInput

#: The modules that the worker needs as they are.
_NEEDED: Final = ("threading", "_thread", "thread", "socket", "select", "time", "queue", "signal")


def patched_by() -> str | None:
    """Return the name of the library that has replaced threads or sockets in this process; None if none has.

    The library is not imported: without it in `sys.modules` it has replaced nothing.
    """
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and any(map(getattr(gevent, "is_module_patched", _no), _NEEDED)):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and any(map(getattr(eventlet, "already_patched", {}).get, _NEEDED)):
        return "eventlet"
    return None


def refuse() -> None:
    """Raise InvalidInput if gevent or eventlet has replaced threads or sockets in this process."""
    library = patched_by()
    if library is not None:
        raise InvalidInput(
            f"a module that CALLBOARD_JOBS or CALLBOARD_MIDDLEWARE names has replaced Python's threads and"
            f" sockets with {library} (monkey patching), and the worker cannot work with them: remove the"
            " patching from what the worker imports, and write jobs that wait much as `async def`"
        )


def _no(_module: str) -> bool:
    return False
