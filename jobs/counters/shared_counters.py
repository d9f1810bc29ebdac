"""Counters that expire, shared by all processes: for Dramatiq's barriers and rate limiters."""

from collections.abc import Callable

from sqlalchemy import Connection

from callboard.jobs.counters import repository
from callboard.jobs.postgres.database import Database


class Counters:
    """Each call is a transaction of its own. A counter that is not there counts as 0; times are in milliseconds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set a counter that is not there; whether it was not."""

        def write(connection: Connection) -> bool:
            repository.sweep(connection)
            return repository.add(connection, key, value, ttl)

        return self._database.retrying(write)

    def increase(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add, up to the maximum; False when that would be exceeded."""
        return self._database.retrying(
            lambda connection: repository.change(connection, key, amount, maximum=maximum, ttl=ttl)
        )

    def decrease(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Take away, down to the minimum; False when that would be passed."""
        return self._database.retrying(
            lambda connection: repository.change(connection, key, -amount, minimum=minimum, ttl=ttl)
        )

    def increase_within_sum(
        self, key: str, keys: Callable[[], list[str]], amount: int, maximum: int, ttl: int
    ) -> bool:
        """Add, unless the sum of all these counters would then exceed the maximum."""

        def write(connection: Connection) -> bool:
            repository.lock_sums(connection)
            if repository.total(connection, list(keys())) + amount > maximum:
                return False
            return repository.change(connection, key, amount, maximum=maximum, ttl=ttl)

        return self._database.retrying(write)

    def is_set(self, key: str) -> bool:
        """Whether the counter is there and not 0."""
        with self._database.autocommit() as connection:
            return repository.total(connection, [key]) != 0
