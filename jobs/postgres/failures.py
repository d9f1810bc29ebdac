"""Classify database errors: an outage, a conflict to retry, a lock, or a value that cannot be stored."""

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from callboard.jobs.errors import Busy, Duplicate, InvalidInput, Unavailable

T = TypeVar("T")

_SERIALIZATION_FAILURE: Final = "40001"
_DEADLOCK: Final = "40P01"
_LOCK_TIMEOUT: Final = "55P03"
#: A standby that took the primary's place is read-only.
_READ_ONLY: Final = "25006"
_UNDEFINED: Final = frozenset({"42P01", "3F000", "42883"})
#: SQLSTATE classes of errors that the statement does not cause: connection exception, insufficient resources,
#: operator intervention, system error.
_OUTAGE_CLASSES: Final = ("08", "53", "57", "58")
_UNIQUE_VIOLATION: Final = "23505"
#: A NUL character, in jsonb and in text.
_NUL: Final = frozenset({"22P05", "22021"})


def sqlstate(error: BaseException) -> str:
    """Return the five-character SQLSTATE of a database error; empty when there is none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def is_outage(error: BaseException) -> bool:
    """Return whether the error is an outage. Otherwise the database refused the statement."""
    if isinstance(error, Unavailable):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = sqlstate(error)
    if state:
        return state.startswith(_OUTAGE_CLASSES) or state == _READ_ONLY
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_conflict(error: BaseException) -> bool:
    """Return whether the same transaction may succeed if it is repeated."""
    return isinstance(error, DBAPIError) and sqlstate(error) in {_SERIALIZATION_FAILURE, _DEADLOCK}


def retry_on_conflict(work: Callable[[], T]) -> T:
    """Call `work`; repeat it after a deadlock or a serialization failure, up to five calls in all."""
    return Retrying(
        retry=retry_if_exception(is_conflict),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.01, max=0.2),
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
    if state == _LOCK_TIMEOUT:
        return Busy("another transaction, still open, holds what this needs; try again")
    if state in _UNDEFINED and schema in str(error):
        return Unavailable("the database has no Callboard tables yet; run 'callboard db upgrade'")
    if state == _UNIQUE_VIOLATION:
        constraint = str(getattr(getattr(error.orig, "diag", None), "constraint_name", None) or "")
        return Duplicate(f"this exists already ({constraint})", constraint=constraint)
    if state in _NUL or (isinstance(error, DataError) and "NUL" in str(error.orig)):
        return InvalidInput("text with a NUL character (\\u0000) cannot be stored")
    return error


def _first_line(error: DBAPIError) -> str:
    text = str(error.orig).strip()
    return text.splitlines()[0][:200] if text else type(error.orig).__name__
