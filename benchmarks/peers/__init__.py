"""Other projects that are measured beside us if they are installed. Each has one file, which exports PEER."""

import pkgutil
import sys
from importlib import import_module

from benchmarks.harness import Peer


def installed() -> list[Peer]:
    """Return the peers that are installed. Print a line on stderr for each of the others."""
    found = []
    for name in pkgutil.iter_modules(__path__):
        peer = getattr(import_module(f"{__name__}.{name.name}"), "PEER", None)
        if peer is not None and peer.installed():
            found.append(peer)
        elif peer is not None:
            print(f"{peer.name} is not installed: skipped (make bench-peers)", file=sys.stderr)
    return found
