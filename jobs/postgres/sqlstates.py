"""The SQLSTATEs that have a meaning for us. An error is known by its code: its text is in any language."""

from typing import Final

#: A deadlock and a serialization failure: the same transaction may succeed if it is repeated.
DEADLOCK: Final = "40P01"
SERIALIZATION_FAILURE: Final = "40001"
CONFLICTS: Final = frozenset({SERIALIZATION_FAILURE, DEADLOCK})

#: A plan or a table changed under a prepared statement. The statement is prepared anew and repeated once.
STALE: Final = frozenset(
    {
        "0A000",  # cached plan must not change result type
        "26000",  # the prepared statement does not exist: DEALLOCATE ALL or DISCARD ALL ran
        "42P05",  # the prepared statement exists already, under a name that the driver thinks is free
        "22P03",  # a parameter's binary format does not fit the changed type
        "42P18",  # the type of a parameter cannot be determined any more
        "42703",  # a column is gone or new
        "42804",  # a column has another type
        "42883",  # no function or operator for the changed type
        "42846",  # no cast for the changed type
        "XX000",  # cache lookup failed, could not open relation: the object was replaced
    }
)

#: Postgres refused or cancelled this one statement, for the sake of others. Nothing was changed.
QUERY_CANCELED: Final = "57014"
LOCK_NOT_AVAILABLE: Final = "55P03"
#: A limit ended one session. The server and the other sessions go on.
ENDED_BY: Final = {
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}

#: Classes of outages: connection exception, insufficient resources, system error.
OUTAGE_CLASSES: Final = ("08", "53", "58")
#: Other outages: the server shuts down, crashed or starts, the database was dropped, and a standby that took
#: the primary's place is read-only.
OUTAGES: Final = frozenset({"57P01", "57P02", "57P03", "57P04", "25006"})

#: The schema, a table or a function is missing.
UNDEFINED: Final = frozenset({"42P01", "3F000", "42883"})
#: The tables may have another version than the statement was written for. The statement itself is tested, so
#: if the version is the right one, the error has another cause.
MISFIT: Final = UNDEFINED | {
    "42703",  # a column is missing
    "42704",  # a type or another object is missing
    "42702",  # a column's name fits two tables
    "42725",  # a call fits two functions
    "42804",  # a column has another type
    "42846",  # no cast for the other type
    "42809",  # a view or another kind of object has the table's name
    "42P10",  # no unique index for ON CONFLICT
    "42601",  # an INSERT of another number of columns, in a function
    "428C9",  # the column is generated
    "22P03",  # a parameter's binary format does not fit the other type
    "42P18",  # the type of a parameter cannot be determined
    "23502",  # a column that this program does not know must not be NULL
}
UNIQUE_VIOLATION: Final = "23505"
CHECK_VIOLATION: Final = "23514"
INSUFFICIENT_PRIVILEGE: Final = "42501"
#: A NUL character in jsonb or in text, or a character that the database's encoding lacks.
UNSTORABLE_TEXT: Final = frozenset({"22P05", "22021"})
#: A statement in a transaction that has failed.
IN_FAILED_TRANSACTION: Final = "25P02"
