"""The log of rows that cannot be read as they are: one line for each row and reason, not for each look."""

from collections.abc import Iterable
from threading import Lock
from typing import Final

import structlog

from callboard.jobs.model.unreadable import RowProblem

#: So many problems are remembered. After that, all are logged again.
_MOST: Final = 10_000

log = structlog.get_logger(__name__)


class Ledger:
    """Logs each problem once in this process, until the row is known to be mended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: set[RowProblem] = set()
        self._scanned: set[RowProblem] = set()

    def report(self, problems: Iterable[RowProblem]) -> None:
        """Log the problems that are new."""
        with self._lock:
            new = [one for one in problems if one not in self._known]
            if len(self._known) + len(new) > _MOST:
                self._known.clear()
            self._known.update(new)
        for one in new:
            log.warning("row.unreadable", table=one.table, key=one.key, column=one.column, reason=one.reason)

    def replace(self, problems: Iterable[RowProblem]) -> None:
        """Report all problems that a scan of the tables found. The others are mended."""
        found = set(problems)
        with self._lock:
            mended, self._scanned = self._scanned - found, found
            self._known -= mended
        for key in sorted({(one.table, one.key) for one in mended} - {(one.table, one.key) for one in found}):
            log.info("row.readable", table=key[0], key=key[1])
        self.report(found)


#: The ledger of this process.
LEDGER: Final = Ledger()
