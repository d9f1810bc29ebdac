"""Kept connections that several threads share."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.statements import KeptConnection

T = TypeVar("T")
Work = Callable[[Statements], T]


class KeptConnections:
    """Kept connections for several threads. When none is free, a thread uses a pooled connection."""

    def __init__(
        self, make: Callable[[], KeptConnection], count: int, otherwise: Callable[[Work[Any]], Any]
    ) -> None:
        #: A stack: the last returned one is taken first, so as few connections as possible are open.
        self._free = deque(make() for _ in range(count))
        self._otherwise = otherwise

    def run(self, work: Work[T], *, one_statement: bool) -> T:
        """Run `work` in one transaction. one_statement: `work` executes one statement, in autocommit."""
        try:
            kept = self._free.pop()
        except IndexError:
            result: T = self._otherwise(work)
            return result
        try:
            return kept.run(work) if one_statement else kept.transaction(work)
        finally:
            self._free.append(kept)

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        for kept in list(self._free):
            kept.close()
