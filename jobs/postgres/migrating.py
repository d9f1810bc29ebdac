"""The schema's versions: up, down, and which one stands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from callboard.jobs.errors import InvalidInput
from callboard.jobs.postgres import schema
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.sql import DEFAULT_SCHEMA


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The version that the database has (None: no tables yet) and the one this code needs."""

    current: str | None
    needed: str

    @property
    def up_to_date(self) -> bool:
        return self.current == self.needed


class Migrations:
    """Moves the schema. Two that run at once come one after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._scripts: Final = Path(__file__).parent / "migrations"

    def status(self) -> SchemaStatus:
        needed = ScriptDirectory.from_config(self._config()).get_current_head()
        with self._database.autocommit() as connection:
            context = MigrationContext.configure(connection, opts={"version_table_schema": DEFAULT_SCHEMA})
            return SchemaStatus(context.get_current_revision(), needed or "")

    def upgrade(self) -> SchemaStatus:
        """Bring the schema to the version that this code needs."""
        self._run(lambda config: command.upgrade(config, "head"))
        return self.status()

    def downgrade(self, revision: str) -> SchemaStatus:
        """Take the schema back to an earlier version; `base` removes every table and all that is in them."""
        if not revision:
            raise InvalidInput("there is no schema version '' to go back to ('base' removes everything)")
        try:
            self._run(lambda config: command.downgrade(config, revision))
        except CommandError as error:
            raise InvalidInput(
                f"there is no schema version {revision[:40]!r} to go back to: {error}"
            ) from None
        return self.status()

    def _run(self, act: Callable[[Config], None]) -> None:
        with self._database.transaction() as connection:
            schema.lock(connection)
            schema.create(connection)
            config = self._config()
            config.attributes["connection"] = connection
            act(config)

    def _config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self._scripts).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        return config
