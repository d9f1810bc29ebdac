"""Open the sessions of one database: our own ones with all settings, and those behind a pooler."""

from typing import Any, Final

import psycopg

from callboard.jobs.postgres.sessions.bounded_connection import (
    CONNECT_WITHIN,
    BoundedConnection,
    WaitLimits,
)
from callboard.jobs.postgres.sessions.pooler import PoolerRefused
from callboard.jobs.postgres.sessions.session_settings import has_options, startup_options, state

_OLDEST: Final = 14
#: What poolers say about start-up options that they do not pass on: PgBouncer, RDS Proxy.
_REFUSALS: Final = ("unsupported startup parameter", "command-line options")


class Sessions:
    """Opens the connections of one database.

    A pooler in transaction mode passes no start-up options on, and gives each transaction another session.
    It is recognised by that.

    allow_pooler: False: connections to a pooler are refused with PoolerRefused.
    """

    def __init__(self, limits: WaitLimits, *, allow_pooler: bool) -> None:
        self._limits = limits
        self._allow_pooler = allow_pooler
        #: The server's major version, after the first connection.
        self._version: int | None = None
        #: Whether a pooler answers, after the first connection.
        self._is_pooled: bool | None = None

    def open(self, parameters: dict[str, Any]) -> BoundedConnection:
        """Connect. `options` of the parameters come first in the packet, so they cannot replace ours."""
        try:
            connection = None if self._is_pooled else self._open_own(parameters)
            self._is_pooled = connection is None
            if connection is not None:
                return connection
            if not self._allow_pooler:
                raise PoolerRefused
            return self._open_pooled(parameters)
        except psycopg.OperationalError:
            # Another server may have taken its place: an older one, or no pooler. The next attempt finds out.
            self._version = self._is_pooled = None
            raise

    def _open_own(self, parameters: dict[str, Any]) -> BoundedConnection | None:
        """Return a connection with all settings; None if a pooler answers."""
        try:
            connection = self._connect(parameters, self._version or _OLDEST)
            version = connection.info.server_version // 10_000
            if startup_options(version) != startup_options(self._version or _OLDEST):
                # The first connection, or the server was upgraded: it knows more settings.
                connection.close()
                connection = self._connect(parameters, version)
        except psycopg.OperationalError as error:
            if any(refusal in str(error) for refusal in _REFUSALS):
                return None
            raise
        self._version = version
        try:
            connection.autocommit = True
            if not has_options(connection):
                connection.close()
                return None
            state(connection)
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_pooled(self, parameters: dict[str, Any]) -> BoundedConnection:
        # The pooler may give the next transaction a session that has not prepared anything.
        given = {name: value for name, value in parameters.items() if name != "options" or value}
        connection = self._open(given | {"prepare_threshold": None})
        connection.is_pooled = True
        # `begin_statement` opens each transaction, in place of the driver.
        connection.autocommit = True
        return connection

    def _connect(self, parameters: dict[str, Any], version: int) -> BoundedConnection:
        given = parameters.get("options")
        ours = startup_options(version)
        return self._open({**parameters, "options": f"{given} {ours}" if given else ours})

    def _open(self, parameters: dict[str, Any]) -> BoundedConnection:
        limit = self._limits.connect(float(parameters.get("connect_timeout", CONNECT_WITHIN)))
        connection = BoundedConnection.connect(**{**parameters, "connect_timeout": limit})
        connection.limits = self._limits
        connection.heed_notices()
        return connection
