"""Counters that all processes share. Dramatiq's barriers and rate limiters use them."""

from collections.abc import Callable

from callboard.jobs.counters import repository
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection


class Counters:
    """Named counters that expire. Each call is one transaction.

    A counter that does not exist or has expired counts as 0. `ttl` is the time until it expires, in
    milliseconds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Create a counter with this value; returns False, and changes nothing, when it exists."""

        def write(connection: Connection) -> bool:
            return repository.add(connection, key, value, ttl)

        return self._database.retrying(write)

    def increase(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add `amount`; returns False, and changes nothing, when the result would be above `maximum`."""
        return self._database.retrying(
            lambda connection: repository.change(connection, key, amount, maximum=maximum, ttl=ttl)
        )

    def decrease(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract `amount`; returns False, and changes nothing, when the result would be below `minimum`."""
        return self._database.retrying(
            lambda connection: repository.change(connection, key, -amount, minimum=minimum, ttl=ttl)
        )

    def increase_within_sum(
        self, key: str, keys: Callable[[], list[str]], amount: int, maximum: int, ttl: int
    ) -> bool:
        """Add `amount` to one counter, unless the sum of the counters `keys` would then be above `maximum`.

        Returns False, and changes nothing, in that case. `keys` is called inside the transaction.
        """

        def write(connection: Connection) -> bool:
            repository.lock_sums(connection)
            if repository.total(connection, list(keys())) + amount > maximum:
                return False
            return repository.change(connection, key, amount, maximum=maximum, ttl=ttl)

        return self._database.retrying(write)

    def is_set(self, key: str) -> bool:
        """Whether the counter exists and is not 0."""
        with self._database.autocommit() as connection:
            return repository.total(connection, [key]) != 0
