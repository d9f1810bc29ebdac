"""The name of the Postgres schema: what it may be, and its default.

One name keeps two applications apart that share a database or a Redis. It is the schema of every table and
SQL function, and part of the NOTIFY channel, of the advisory lock keys and of every Redis key.
"""

import re
from typing import Final

from callboard.jobs.errors import InvalidInput

DEFAULT_SCHEMA: Final = "callboard"

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}", re.ASCII)
#: The words that Postgres does not accept as an unquoted name (pg_get_keywords, classes R and T), and its own
#: schema.
_RESERVED: Final = (
    "all analyse analyze and any array as asc asymmetric authorization binary both case cast check "
    "collate collation column concurrently constraint create cross current_catalog current_date "
    "current_role current_schema current_time current_timestamp current_user default deferrable desc "
    "distinct do else end except false fetch for foreign freeze from full grant group having ilike in "
    "information_schema initially inner intersect into is isnull join lateral leading left like limit "
    "localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing "
    "primary references returning right select session_user similar some symmetric system_user table "
    "tablesample then to trailing true union unique user using variadic verbose when where window with"
)


def check_schema(name: str) -> str:
    """Return the name if it can be the schema's; raise InvalidInput otherwise.

    A name of lower-case letters, digits and underscores needs no quotes: it reads the same in SQL, in channel
    names and in Redis keys. Postgres keeps names that begin with `pg_` for itself.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("pg_"):
        shown = name[:60] if isinstance(name, str) else name
        raise InvalidInput(
            f"{shown!r:.80} cannot be the schema:"
            " use up to 40 lower-case letters, digits and '_', no digit first",
            fields={"schema": "up to 40 of a-z, 0-9 and _"},
        )
    if name in _RESERVED.split():
        raise InvalidInput(
            f"{name!r} cannot be the schema: it is a reserved word", fields={"schema": "a reserved word"}
        )
    return name
