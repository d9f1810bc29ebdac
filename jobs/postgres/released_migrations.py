"""Migrations 0001 to 0004 in a schema of any name.

These files are released and name their schema `callboard` in every statement. A released migration is never
edited: the statements are translated on their way to Postgres. A later migration writes SCHEMA of
`callboard.jobs.postgres.sql` instead, and the connection replaces it by the schema's name.
"""

import re
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.event import listen

from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA

#: The schema before a dot (`callboard.jobs`, not `x.callboard.jobs` or `my_callboard.jobs`), and the name of
#: the channel in the SQL functions. Messages of the SQL functions begin with "callboard: " and stay.
_NAMES: Final = re.compile(
    rf"(?<![\w.$\"]){DEFAULT_SCHEMA}(?=\.[a-z_])|(?<='){DEFAULT_SCHEMA}(?=_queued')", re.ASCII
)


def translated(statement: str, schema: str) -> str:
    """Return a statement of migrations 0001 to 0004 with this schema's name for `callboard`."""
    return _NAMES.sub(schema, statement)


def translate_on(connection: Connection, schema: str) -> None:
    """Translate every statement that this connection object executes."""

    def translate(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any
    ) -> tuple[str, Any]:
        return translated(statement, schema), parameters

    if schema != DEFAULT_SCHEMA:
        listen(connection, "before_cursor_execute", translate, retval=True)
