"""Interfaces without code: the statements of repositories, and the source of kept connections."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection as Connection  # noqa: PLC0414 - services get the type from here
from sqlalchemy import TextClause


class Rows(Protocol):
    """The result of a statement. It is valid until the next statement."""

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
    """The source of kept connections (postgres/database.py)."""

    @property
    def schema(self) -> str: ...
    @property
    def outages(self) -> int:
        """How often all connections were discarded as dead."""
        ...

    def lasting(self) -> AbstractContextManager[Connection]: ...
    def explained(self, error: Exception) -> Exception: ...
