"""What repositories write through, and where a kept connection comes from: interfaces without code."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection as Connection  # noqa: PLC0414 - services get the type from here
from sqlalchemy import TextClause


class Rows(Protocol):
    """The answer to a statement. It holds until the next statement."""

    @property
    def rowcount(self) -> int: ...
    def all(self) -> Sequence[Any]: ...
    def first(self) -> Any: ...
    def one_or_none(self) -> Any: ...
    def scalar_one(self) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class Statements(Protocol):
    """Runs statements in one transaction: a pooled connection, a kept one, or a caller's own.

    It commits nothing.
    """

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None, /) -> Rows: ...


class Pool(Protocol):
    """Where a kept connection comes from (postgres/database.py)."""

    @property
    def schema(self) -> str: ...
    @property
    def outages(self) -> int:
        """How often all connections were given up as dead."""
        ...

    def autocommit(self) -> AbstractContextManager[Connection]: ...
    def explained(self, error: Exception) -> Exception: ...
