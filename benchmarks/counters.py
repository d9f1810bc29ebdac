"""What Postgres and Redis have been asked to do: counted by them, not by those who ask."""

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

#: One line for each statement: who told it, then how it was told. The wheel's Postgres has no pg_stat_statements.
_PREFIX: Final = "BENCH|%a|"
_LINE: Final = re.compile(r"^BENCH\|(.*?)\|LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", re.MULTILINE)
#: How long a change of settings takes to reach every connection; each reads it before its next statement. Seconds.
_SETTLES: Final = 0.5
_SHOWN: Final = 100


@dataclass(slots=True)
class Asked:
    """What was asked within a block; complete at its end."""

    seconds: float = 0.0
    #: By the connection's application_name and the statement's first words; BEGIN and COMMIT count, too.
    statements: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Calls by Redis command.
    redis_commands: Counter[str] = field(default_factory=Counter)

    @property
    def figures(self) -> dict[str, float]:
        """Per second."""
        return {
            "statements_s": self.statements.total() / self.seconds,
            "redis_commands_s": self.redis_commands.total() / self.seconds,
        }


class Counters:
    """Reads the counters of the arena's servers."""

    def __init__(self, database: Database, client: redis.Redis, postgres_log: Path) -> None:
        self._database = database
        self._client = client
        self._log = postgres_log

    @contextmanager
    def asked(self) -> Iterator[Asked]:
        """Count what both servers are told within the block; Postgres logs every statement meanwhile, so measure no speed."""
        found = Asked()
        self._log_statements(on=True)
        offset, commands, begun = self._log.stat().st_size, self._commands(), time.monotonic()
        try:
            yield found
            found.seconds = time.monotonic() - begun
            found.redis_commands = self._commands() - commands
            with self._log.open("rb") as file:
                file.seek(offset)
                lines = _LINE.findall(file.read().decode(errors="replace"))
            found.statements.update((who, " ".join(said.split())[:_SHOWN]) for who, said in lines)
        finally:
            self._log_statements(on=False)

    def _log_statements(self, *, on: bool) -> None:
        with self._database.autocommit() as connection:
            for name, value in (("log_statement", "all"), ("log_line_prefix", _PREFIX)):
                connection.execute(
                    text(f"ALTER SYSTEM SET {name} = '{value}'" if on else f"ALTER SYSTEM RESET {name}")
                )
            connection.execute(text("SELECT pg_reload_conf()"))
        time.sleep(_SETTLES)

    def _commands(self) -> Counter[str]:
        stats = self._client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(told["calls"]) for name, told in stats.items()}
        # our own look is not what the platform asks
        return Counter({name: count for name, count in calls.items() if name != "info"})
