"""The settings of every session: what the code relies on, whatever a server, a database or a role sets.

A session of our own gets them in the start-up packet, which outranks ALTER ROLE and ALTER DATABASE. Then they
are read back with one statement, and those that still differ are set and read again. Later statements pay
nothing.

A session behind a pooler also serves strangers. It gets the settings at the start of each transaction, until
its end.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Final, NamedTuple

import psycopg
from sqlalchemy import Connection

from callboard.jobs.errors import Unavailable

#: Postgres cancels a statement after this time. So it answers before the client gives up, see
#: bounded_connection.py.
STATEMENT_TIMEOUT: Final = timedelta(seconds=25)


class Setting(NamedTuple):
    """A setting that the code relies on.

    accepted: other values that are as good. They are left alone.
    since:    the first major version of Postgres that knows the setting.
    startup:  False: not every role may send it in the start-up packet, or other values are accepted. It is
              set after the connect, and only if it differs.
    begin:    False: BEGIN says it, or it has no meaning within a transaction.
    """

    name: str
    value: str
    accepted: tuple[str, ...] = ()
    since: int = 14
    startup: bool = True
    begin: bool = True


_OLDEST: Final = 14

SETTINGS: Final = (
    # Text: JSON, arrays and names are sent and read as UTF-8. Another encoding would store other characters.
    Setting("client_encoding", "UTF8"),
    # What the driver parses: times, intervals, and floats with all their digits.
    Setting("datestyle", "ISO, YMD"),
    Setting("intervalstyle", "postgres"),
    Setting("timezone", "UTC"),
    Setting("extra_float_digits", "1"),
    Setting("bytea_output", "hex"),
    # What our SQL means: backslashes and NULL in literals, `= NULL`, unqualified names, exact GIN scans.
    # Our statements name their schema. So search_path must not find a function of another schema.
    Setting("standard_conforming_strings", "on"),
    Setting("array_nulls", "on"),
    Setting("transform_null_equals", "off"),
    Setting("search_path", "pg_catalog, pg_temp"),
    Setting("gin_fuzzy_search_limit", "0"),
    # Foreign keys cascade only in the role `origin`. Only a superuser may change it.
    Setting("session_replication_role", "origin", accepted=("local",), startup=False),
    # Transactions: statements see what others committed before them; they write; an accepted job is durable.
    Setting("default_transaction_isolation", "read committed", begin=False),
    Setting("default_transaction_read_only", "off", begin=False),
    Setting("default_transaction_deferrable", "off", begin=False),
    Setting("synchronous_commit", "on", accepted=("remote_apply",), startup=False),
    # A commit that the synchronous standby has not confirmed is known by a warning.
    Setting("client_min_messages", "warning"),
    # Limits: the leader, the listener and the pool hold idle sessions. A migration sets its own limits.
    Setting("statement_timeout", f"{STATEMENT_TIMEOUT.seconds}s"),
    Setting("lock_timeout", "0"),
    # A process that was cut off in a transaction holds its locks no longer than this.
    Setting("idle_in_transaction_session_timeout", "1min"),
    Setting("idle_session_timeout", "0", begin=False),
    Setting("transaction_timeout", "0", since=17),
    # An error ends its transaction, never the session.
    Setting("exit_on_error", "off"),
    # Plans. A prepared statement keeps its plan until its tables are analyzed again. A plan that was made for
    # a nearly empty table would read a whole backlog for every batch. Every statement here has an index, so
    # all other plans are switched off.
    Setting("enable_seqscan", "off"),
    Setting("enable_hashjoin", "off"),
    Setting("enable_mergejoin", "off"),
    Setting("enable_indexscan", "on"),
    Setting("enable_indexonlyscan", "on"),
    Setting("enable_bitmapscan", "on"),
    Setting("enable_nestloop", "on"),
    Setting("enable_sort", "on"),
    Setting("plan_cache_mode", "auto"),
    Setting("jit", "off"),
)

#: The server closes a connection whose client vanished without a word. That frees its locks. On a local
#: socket these have no effect, so they are not read back.
_LIVENESS: Final = {
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
}
#: A setting of this name has no meaning for Postgres. Poolers drop it with the other start-up options.
_MARK: Final = "callboard.session"

# A setting that the server does not know is NULL, and stays unset.
_READ: Final = "SELECT pg_catalog.current_setting(n, true) FROM pg_catalog.unnest(%s::text[]) AS n"
_SET: Final = "SELECT pg_catalog.set_config(%s, %s, false)"
# No other transaction of this session may see a setting of ours, so all are local to the transaction. The
# session's search_path may name a stranger's schema first, so operators are named in full, too.
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE;"
    " SELECT pg_catalog.set_config(s.n, s.v, true) FROM (VALUES {values}) AS s (n, v, also)"
    " WHERE pg_catalog.current_setting(s.n, true) OPERATOR(pg_catalog.<>) s.v"
    " AND pg_catalog.current_setting(s.n, true) OPERATOR(pg_catalog.<>) ALL (s.also)"
)


def startup_options(version: int = _OLDEST) -> str:
    """Return the settings for the start-up packet of a server of this major version.

    A server refuses a connection that sends a setting it does not know.
    """
    chosen = {each.name: each.value for each in SETTINGS if each.startup and each.since <= version}
    chosen |= _LIVENESS | {_MARK: "on"}
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in chosen.items())


def has_options(connection: "psycopg.Connection[Any]") -> bool:
    """Return whether the start-up packet's options reached this session. Behind a pooler they do not."""
    row = connection.execute(_READ, ([_MARK],), prepare=False).fetchone()
    return row == ("on",)


def state(connection: "psycopg.Connection[Any]") -> None:
    """Read the settings back; set those that differ. Raises Unavailable if one cannot be set.

    The connection must be in autocommit. Its session must be our own, not a pooler's.
    """
    different = _different(connection)
    if different:
        _correct(connection, different)


@cache
def begin_statement(extra: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Return the start of a transaction with these and further settings, for a session behind a pooler."""
    ours: dict[str, tuple[str, tuple[str, ...]]] = {
        each.name: (each.value, each.accepted) for each in SETTINGS if each.begin
    }
    ours |= {name: (value, ()) for name, value in extra}
    values = ", ".join(
        f"('{name}', '{value}', '{{{','.join(also)}}}'::pg_catalog.text[])"
        for name, (value, also) in ours.items()
    )
    return _BEGIN.format(values=values).encode()


def change(connection: Connection, settings: Mapping[str, str]) -> None:
    """Set further settings of a connection in autocommit, which does not go back to the pool."""
    for name, value in settings.items():
        connection.exec_driver_sql(_SET, (name, value))


def kept_settings(*, durable: bool, lock_timeout: timedelta | None) -> dict[str, str]:
    """Return the further settings of a kept connection."""
    # Each statement has one plan, good for any number of rows: planning takes longer than running it.
    settings = {"plan_cache_mode": "force_generic_plan"}
    if not durable:
        settings["synchronous_commit"] = "off"
    if lock_timeout is not None:
        settings["lock_timeout"] = str(lock_timeout // timedelta(milliseconds=1))
    return settings


def _different(connection: "psycopg.Connection[Any]") -> list[tuple[Setting, str]]:
    """Return the settings that do not have their value, each with the value it has."""
    names = [setting.name for setting in SETTINGS]
    rows = connection.execute(_READ, (names,), prepare=False).fetchall()
    found = [(setting, value) for setting, (value,) in zip(SETTINGS, rows, strict=True)]
    return [
        (setting, value)
        for setting, value in found
        if value is not None and _plain(value) not in map(_plain, (setting.value, *setting.accepted))
    ]


def _correct(connection: "psycopg.Connection[Any]", different: Sequence[tuple[Setting, str]]) -> None:
    for setting, found in different:
        try:
            connection.execute(_SET, (setting.name, setting.value), prepare=False)
        except psycopg.errors.InsufficientPrivilege:
            raise _unsettable(setting, found) from None
    for setting, found in _different(connection):
        raise _unsettable(setting, found)


def _escaped(value: str) -> str:
    return value.replace(" ", "\\ ")


def _plain(value: str) -> str:
    # Postgres shows a list as it was written: with spaces or without.
    return value.replace(" ", "").lower()


def _unsettable(setting: Setting, found: str) -> Unavailable:
    return Unavailable(
        f"Postgres does not let this role set {setting.name} to {setting.value!r} (it is {found!r});"
        f" run ALTER ROLE ... RESET {setting.name} or ALTER DATABASE ... RESET {setting.name}"
    )
