"""The parameters with which a database's connections are opened."""

from typing import Any, Final

from sqlalchemy import URL

from callboard.jobs.postgres.repeating import RepeatingCursor
from callboard.jobs.postgres.server_address import libpq_defaults

#: A host that vanishes without a word is noticed within half a minute, not after hours. Seconds; the last one
#: is in milliseconds.
_LIVENESS: Final = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def connection_parameters(address: URL, application: str) -> dict[str, Any]:
    """Return the connection parameters that are added to the URL's. What the user sets comes first.

    The user's `options` are joined with those of session_settings.py. Where both set the same one, ours
    counts: statements need it.
    """
    set_by_user = libpq_defaults() | address.query
    ours: dict[str, Any] = {**_LIVENESS, "application_name": application}
    if "," in str(set_by_user.get("host", "")):
        # Of several servers, only the primary accepts jobs.
        ours["target_session_attrs"] = "primary"
    parameters = {name: value for name, value in ours.items() if name not in set_by_user}
    timeout = str(set_by_user.get("connect_timeout", ""))
    if timeout.isdecimal():
        # The driver would read PGCONNECT_TIMEOUT by itself, but a process that stops waits for less.
        parameters["connect_timeout"] = timeout
    return parameters | {"cursor_factory": RepeatingCursor, "options": str(set_by_user.get("options", ""))}
