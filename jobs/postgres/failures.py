"""Classify database errors: an outage, a conflict, a cancelled statement, changed tables, or a bad value."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from callboard.jobs.errors import Busy, Conflict, Duplicate, InvalidInput, Unavailable
from callboard.jobs.model.basics.waits import with_our_jitter
from callboard.jobs.postgres.repeating import FIRST_PAUSE, LONGEST_PAUSE, MOST_ATTEMPTS
from callboard.jobs.postgres.sqlstates import (
    CHECK_VIOLATION,
    CONFLICTS,
    ENDED_BY,
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
    MISFIT,
    OUTAGE_CLASSES,
    OUTAGES,
    QUERY_CANCELED,
    STALE,
    UNDEFINED,
    UNIQUE_VIOLATION,
    UNSTORABLE_TEXT,
)

T = TypeVar("T")


def sqlstate(error: BaseException) -> str:
    """Return the five-character SQLSTATE of a database error, or of the cause of our error; else empty."""
    driver = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None)
    return getattr(driver, "sqlstate", None) or ""


def is_outage(error: BaseException) -> bool:
    """Return whether the database is away. Otherwise it refused a statement or ended a session."""
    if isinstance(error, Unavailable):
        return not isinstance(error, Busy)
    if not isinstance(error, DBAPIError):
        return False
    state = sqlstate(error)
    if state:
        return state.startswith(OUTAGE_CLASSES) or state in OUTAGES
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_conflict(error: BaseException) -> bool:
    """Return whether the same transaction may succeed if it is repeated."""
    return sqlstate(error) in CONFLICTS


def is_stale(error: BaseException) -> bool:
    """Return whether a plan or a table changed under a prepared statement."""
    return sqlstate(error) in STALE


def is_misfit(error: BaseException) -> bool:
    """Return whether the tables may have a version that the statement was not written for."""
    return sqlstate(error) in MISFIT


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether a statement waited for a lock for longer than lock_timeout."""
    return sqlstate(error) == LOCK_NOT_AVAILABLE


def retry_on_conflict(work: Callable[[], T]) -> T:
    """Call `work`; repeat it after a deadlock or a serialization failure, up to five calls in all."""
    return Retrying(
        retry=retry_if_exception(is_conflict),
        stop=stop_after_attempt(MOST_ATTEMPTS),
        wait=with_our_jitter(wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)),
        reraise=True,
    )(work)


def explained(error: Exception, *, where: str, schema: str) -> Exception:
    """Return our error for a driver error, or the driver error itself if it has no meaning for us.

    where: the server's address, for the message.
    """
    if isinstance(error, PoolTimeout):
        return Unavailable("all connections to Postgres are busy; try again")
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("text that is not valid Unicode (a lone surrogate) cannot be stored")
    if not isinstance(error, DBAPIError):
        return error
    if is_outage(error):
        return Unavailable(f"Postgres does not answer at {where}: {_first_line(error)}")
    state = sqlstate(error)
    return _busy(state) or _unusable(error, state, schema) or _refused(error, state) or error


def _busy(state: str) -> Busy | None:
    """Return the error for a statement or a session that Postgres ended. Nothing was changed."""
    if state == LOCK_NOT_AVAILABLE:
        return Busy(
            "another transaction, still open, holds what this needs for longer than lock_timeout; try again"
        )
    if state == QUERY_CANCELED:
        return Busy(
            "Postgres cancelled the statement: statement_timeout ran out, or somebody cancelled it; try again"
        )
    if state in ENDED_BY:
        return Busy(f"Postgres ended the session: {ENDED_BY[state]} ran out; try again")
    if state in CONFLICTS:
        return Busy(f"other transactions change the same rows all the time ({state}); try again")
    return None


def _unusable(error: DBAPIError, state: str, schema: str) -> Unavailable | None:
    """Return the error for tables that this program cannot use, or not yet."""
    if state in UNDEFINED and schema in str(error):
        return Unavailable("the database has no Callboard tables yet; run 'callboard db upgrade'")
    if state in STALE:
        return Unavailable(
            f"the tables changed under this program ({state}: {_first_line(error)});"
            " try again, and restart it with the version that fits the tables"
        )
    if state == INSUFFICIENT_PRIVILEGE:
        return Unavailable(f"the database role lacks a right: {_first_line(error)}")
    return None


def _refused(error: DBAPIError, state: str) -> Conflict | InvalidInput | None:
    """Return the error for a value that the database does not store."""
    constraint = str(getattr(getattr(error.orig, "diag", None), "constraint_name", None) or "")
    if state == CHECK_VIOLATION:
        return Conflict(
            f'the row does not meet the constraint "{constraint}": it was changed by hand; correct it'
        )
    if state == UNIQUE_VIOLATION:
        return Duplicate(f"this exists already ({constraint})", constraint=constraint)
    if state in UNSTORABLE_TEXT or (isinstance(error, DataError) and "NUL" in str(error.orig)):
        return InvalidInput("text with a NUL character (\\u0000) cannot be stored")
    return None


def _first_line(error: DBAPIError) -> str:
    text = str(error.orig).strip()
    return text.splitlines()[0][:200] if text else type(error.orig).__name__
