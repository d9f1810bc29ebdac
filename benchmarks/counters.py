"""What Postgres and Redis have been asked to do: counted by them, not by those who ask."""

from dataclasses import dataclass

import redis
from sqlalchemy import text

from jobs.database import Database


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals since the servers started."""

    transactions: int
    redis_commands: int

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(self.transactions - other.transactions, self.redis_commands - other.redis_commands)


class Counters:
    """Reads the counters of one database and one Redis; a reading counts itself."""

    def __init__(self, database: Database, client: redis.Redis) -> None:
        self._database = database
        self._client = client

    def read(self) -> Counts:
        """Transactions of the database, rolled back ones too, and commands of Redis."""
        with self._database.autocommit() as connection:
            # what other connections have counted reaches the view when they fall idle
            transactions = connection.execute(
                text(
                    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
                )
            ).scalar_one()
        return Counts(int(transactions), int(self._client.info("stats")["total_commands_processed"]))
