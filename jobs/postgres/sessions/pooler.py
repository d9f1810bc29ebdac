"""The error for a process that needs sessions of its own and finds a pooler."""

from callboard.jobs.errors import Unavailable


class PoolerRefused(Unavailable):
    """A connection pooler answers where Postgres itself is needed."""

    stored_as = "PoolerRefused"

    def __init__(self) -> None:
        super().__init__(
            "the database's URL leads to a connection pooler such as PgBouncer, but workers, the scheduler"
            " and migrations need sessions of their own; set CALLBOARD_DATABASE_DIRECT_URL to the URL of"
            " Postgres itself"
        )
