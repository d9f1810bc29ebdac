"""Count the statements and commands that Postgres and Redis receive. The servers count, not their clients."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis
from sqlalchemy import text

from callboard.jobs.postgres.database import Database

#: The start of a log line for one statement, with the connection's application_name. Statements are counted
#: in the log because the wheel's Postgres has no pg_stat_statements.
_PREFIX: Final = "BENCH|%a|"
_LINE: Final = re.compile(r"^BENCH\|(.*?)\|LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", re.MULTILINE)
#: How long a change of settings takes to reach every connection. Seconds.
_RELOAD_SECONDS: Final = 0.5
_MAX_STATEMENT: Final = 100


@dataclass(slots=True)
class ServerRequests:
    """The requests that the servers received within a block. Complete when the block has ended."""

    seconds: float = 0.0
    #: Statements by application_name and first words. BEGIN and COMMIT count too.
    statements: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Calls by the name of the Redis command.
    redis_commands: Counter[str] = field(default_factory=Counter)

    @property
    def figures(self) -> dict[str, float]:
        """Return the requests per second."""
        return {
            "statements_s": self.statements.total() / self.seconds,
            "redis_commands_s": self.redis_commands.total() / self.seconds,
        }


class Counters:
    """Counts what the arena's servers receive."""

    def __init__(self, database: Database, client: redis.Redis, postgres_log: Path) -> None:
        self._database = database
        self._client = client
        self._log = postgres_log

    @contextmanager
    def count(self) -> Iterator[ServerRequests]:
        """Count the requests to both servers within the block.

        Do not measure speed in the block: Postgres logs every statement.
        """
        found = ServerRequests()
        self._log_statements(on=True)
        offset, commands, started = self._log.stat().st_size, self._commands(), time.monotonic()
        try:
            yield found
            found.seconds = time.monotonic() - started
            found.redis_commands = self._commands() - commands
            with self._log.open("rb") as file:
                file.seek(offset)
                lines = _LINE.findall(file.read().decode(errors="replace"))
            found.statements.update(
                (who, " ".join(statement.split())[:_MAX_STATEMENT]) for who, statement in lines
            )
        finally:
            self._log_statements(on=False)

    def _log_statements(self, *, on: bool) -> None:
        with self._database.autocommit() as connection:
            for name, value in (("log_statement", "all"), ("log_line_prefix", _PREFIX)):
                connection.execute(
                    text(f"ALTER SYSTEM SET {name} = '{value}'" if on else f"ALTER SYSTEM RESET {name}")
                )
            connection.execute(text("SELECT pg_reload_conf()"))
        time.sleep(_RELOAD_SECONDS)

    def _commands(self) -> Counter[str]:
        stats = self._client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(command["calls"]) for name, command in stats.items()}
        # INFO is our own command
        return Counter({name: count for name, count in calls.items() if name != "info"})
