"""The service that the feeder uses: it stages and expires jobs, and reads the jobs to push to Redis."""

from collections.abc import Sequence
from uuid import UUID

from callboard.jobs.feed import repository
from callboard.jobs.feed.upkeep import Upkeep
from callboard.jobs.model.hint import FeedTokens
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.leadership import Leadership
from callboard.jobs.postgres.schema import SchemaStatus


class Feed:
    """The Postgres queries of the feeder, which sends due jobs to the workers through Redis.

    Every method raises Unavailable while Postgres does not answer, and SchemaMismatch while the tables do not
    fit this program.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self) -> Upkeep:
        """Return the work that is due."""
        with self._database.autocommit("look") as connection:
            found = repository.look(connection)
        self._database.fit.verify(SchemaStatus(found.version))
        return found

    def look_as_leader(self, leadership: Leadership) -> Upkeep:
        """Do what `look` does, over the leader's connection. An answer proves that it still is the leader."""
        found = leadership.ask(repository.look)
        self._database.fit.verify(SchemaStatus(found.version))
        return found

    def stage(self, limit: int) -> int:
        """Queue up to `limit` scheduled and retrying jobs that are due; return how many."""
        return len(
            self._database.retrying(lambda connection: repository.stage(connection, limit), operation="feed")
        )

    def expire(self, limit: int) -> list[UUID]:
        """Cancel up to `limit` jobs that have expired before they started; return their ids."""
        expired = self._database.retrying(
            lambda connection: repository.expire(connection, limit), operation="feed"
        )
        return [job.id for job in expired]

    def heads(self, queues: Sequence[str], limit: int) -> dict[str, FeedTokens]:
        """Return the tokens of the most urgent queued jobs of each queue."""
        with self._database.autocommit("feed") as connection:
            return repository.heads(connection, queues, limit)

    def queued(self, queue: str, limit: int, offset: int) -> FeedTokens:
        """Return tokens of one queue in the order of urgency, from `offset` on."""
        with self._database.autocommit("feed") as connection:
            return repository.queued(connection, queue, limit, offset)
