"""Other projects, measured beside us when they are installed: one file for each, which exports PEER."""

import pkgutil
import sys
from importlib import import_module

from benchmarks.harness import Peer


def installed() -> list[Peer]:
    """Those that can be measured here; a line on stderr names each of the others."""
    found = []
    for name in pkgutil.iter_modules(__path__):
        peer = getattr(import_module(f"{__name__}.{name.name}"), "PEER", None)
        if peer is not None and peer.installed():
            found.append(peer)
        elif peer is not None:
            print(f"{peer.name} is not installed: skipped (make bench-peers)", file=sys.stderr)
    return found
