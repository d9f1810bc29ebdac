"""Blocks of statements in a caller's transaction that are written as a whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import text

from callboard.jobs.postgres.callers.kinds import Lent

_SAVEPOINT: Final = "callboard_enqueue"
_NESTED: Final = (
    text(f"SAVEPOINT {_SAVEPOINT}"),
    text(f"RELEASE SAVEPOINT {_SAVEPOINT}"),
    text(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}"),
)
_ALONE: Final = (text("BEGIN"), text("COMMIT"), text("ROLLBACK"))


@contextmanager
def whole(statements: Lent) -> Iterator[None]:
    """Undo the block after any error. The caller's transaction stays usable.

    In autocommit, the block is a transaction of its own.
    """
    begin, end, undo = _NESTED if statements.is_open else _ALONE
    try:
        # A call that is cancelled here may have begun the transaction.
        statements.execute(begin)
        yield
        statements.execute(end)
    except BaseException:
        # If this fails as well, the connection is lost, and the first error says why.
        with suppress(Exception):
            statements.execute(undo)
        raise
