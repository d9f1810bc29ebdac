"""What is wrong with Redis: each error of a call has a cause, and each cause has a remedy.

A process logs each cause once, when it begins. All callers work without Redis, so a cause is never an error
of theirs.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import redis
import structlog
from redis import exceptions

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM, Clock

#: A cause that did not occur for this time is logged again when it comes back. Seconds.
_FORGOTTEN_AFTER: Final = 600.0
#: A process logs at most this many different causes.
_MOST_LOGGED: Final = 100
_LONGEST_TEXT: Final = 200
_PAGE: Final = "see how-to/redis.md"

log = structlog.get_logger(__name__)


class Cause(StrEnum):
    """Why Redis cannot be used. The value is the field `cause` in the log."""

    AWAY = "away"
    TLS = "tls"
    NOT_REDIS = "not_redis"
    LOGIN = "login"
    NO_RIGHT = "no_right"
    PROTECTED = "protected_mode"
    NO_DATABASE = "no_database"
    NO_COMMAND = "no_command"
    WRONG_TYPE = "wrong_type"
    FULL = "full"
    CANNOT_SAVE = "cannot_save"
    READ_ONLY = "read_only"
    MASTER_DOWN = "master_down"
    NO_MASTER = "no_master"
    TOO_FEW_REPLICAS = "too_few_replicas"
    LOADING = "loading"
    BUSY = "busy"
    TOO_MANY_CLIENTS = "too_many_clients"
    CLUSTER = "cluster"
    REFUSED = "refused"

    @property
    def remedy(self) -> str:
        return _REMEDIES[self]


_TO_MASTER: Final = "name the master in CALLBOARD_REDIS_URL, or use redis+sentinel:// to follow failovers"
_TEXTS: Final = {
    Cause.AWAY: "Redis does not answer",
    Cause.TLS: "the TLS handshake with Redis fails",
    Cause.NOT_REDIS: "the server's answer is not one of Redis",
    Cause.LOGIN: "Redis does not accept the user or the password",
    Cause.NO_RIGHT: "the Redis user lacks a right",
    Cause.PROTECTED: "Redis is in protected mode and refuses connections from other machines",
    Cause.NO_DATABASE: "Redis has no database of this number",
    Cause.NO_COMMAND: "Redis does not know a command",
    Cause.WRONG_TYPE: "a key of Callboard in Redis has a value of another type",
    Cause.FULL: "Redis is full and refuses writes",
    Cause.CANNOT_SAVE: "Redis cannot save to its disk and refuses writes",
    Cause.READ_ONLY: "Redis is a read-only replica",
    Cause.MASTER_DOWN: "Redis is a replica that has lost its master",
    Cause.NO_MASTER: "Sentinel names no master",
    Cause.TOO_FEW_REPLICAS: "Redis has too few replicas and refuses writes",
    Cause.LOADING: "Redis is loading its data",
    Cause.BUSY: "Redis is busy with a script of another program",
    Cause.TOO_MANY_CLIENTS: "Redis has too many clients",
    Cause.CLUSTER: "Redis runs in cluster mode, which Callboard does not support",
    Cause.REFUSED: "Redis refuses a command",
}
_REMEDIES: Final = {
    Cause.AWAY: "start Redis, or correct CALLBOARD_REDIS_URL (host, port, rediss:// only with TLS)",
    Cause.TLS: "write rediss:// only for a port with TLS, and check ssl_ca_certs and the certificate's name",
    Cause.NOT_REDIS: "correct host and port in CALLBOARD_REDIS_URL; a port with TLS needs rediss://",
    Cause.LOGIN: "correct user and password in CALLBOARD_REDIS_URL",
    Cause.NO_RIGHT: f"give the user the rights that Callboard needs with ACL SETUSER; {_PAGE}",
    Cause.PROTECTED: "set a password on the server and in CALLBOARD_REDIS_URL",
    Cause.NO_DATABASE: "name a smaller number in CALLBOARD_REDIS_URL, or raise 'databases' of the server",
    Cause.NO_COMMAND: "do not rename or disable commands (rename-command); Redis or Valkey 7.0 is needed",
    Cause.WRONG_TYPE: f"rename or delete the key; {_PAGE}",
    Cause.FULL: "raise maxmemory, or remove other data from this server",
    Cause.CANNOT_SAVE: "free its disk, or switch off snapshots (CONFIG SET save ''): Callboard needs none",
    Cause.READ_ONLY: _TO_MASTER,
    Cause.MASTER_DOWN: _TO_MASTER,
    Cause.NO_MASTER: "check the Sentinels and the service's name in CALLBOARD_REDIS_URL",
    Cause.TOO_FEW_REPLICAS: "start the replicas, or lower min-replicas-to-write",
    Cause.LOADING: "wait until it has loaded",
    Cause.BUSY: "stop the script with SCRIPT KILL",
    Cause.TOO_MANY_CLIENTS: "raise maxclients of the server",
    Cause.CLUSTER: "use a server without cluster mode, alone or with Sentinel",
    Cause.REFUSED: "read the server's log, and correct its configuration",
}
#: What redis-py puts in front of the server's words: the whole command, if it was in a pipeline.
_OF_REDIS_PY: Final = re.compile(r".*caused error: ", re.DOTALL)
#: What the server adds about a command that it does not know. The arguments of AUTH are secret.
_ARGUMENTS: Final = re.compile(r",? with args beginning with.*", re.DOTALL)
#: By redis-py's classes. The first that fits counts.
_CLASSES: Final[tuple[tuple[type[Exception], Cause], ...]] = (
    (exceptions.OutOfMemoryError, Cause.FULL),
    (exceptions.ReadOnlyError, Cause.READ_ONLY),
    (exceptions.NoPermissionError, Cause.NO_RIGHT),
    (exceptions.BusyLoadingError, Cause.LOADING),
    (exceptions.MasterDownError, Cause.MASTER_DOWN),
    (exceptions.AskError, Cause.CLUSTER),
    (exceptions.TryAgainError, Cause.CLUSTER),
    (exceptions.ClusterError, Cause.CLUSTER),
    (exceptions.ClusterCrossSlotError, Cause.CLUSTER),
    (exceptions.AuthenticationError, Cause.LOGIN),
    (exceptions.AuthenticationWrongNumberOfArgsError, Cause.LOGIN),
)
#: By how the server's words begin, in lower case.
_BEGINNINGS: Final = (
    ("wrongtype ", Cause.WRONG_TYPE),
    ("denied ", Cause.PROTECTED),
    ("misconf ", Cause.CANNOT_SAVE),
    ("noreplicas ", Cause.TOO_FEW_REPLICAS),
    ("busy ", Cause.BUSY),
    # A pop that waited when its master became a replica.
    ("unblocked ", Cause.READ_ONLY),
    ("acl failure in script", Cause.NO_RIGHT),
    # In Redis 7.0.
    ("the user executing the script can't", Cause.NO_RIGHT),
    ("unknown command", Cause.NO_COMMAND),
    ("unknown redis command", Cause.NO_COMMAND),
    ("db index is out of range", Cause.NO_DATABASE),
    ("invalid db index", Cause.NO_DATABASE),
    ("select is not allowed in cluster mode", Cause.CLUSTER),
    ("max number of clients reached", Cause.TOO_MANY_CLIENTS),
)


class RedisUnavailable(Unavailable):
    """Redis refused a call or did not answer in time. The platform works without Redis."""

    stored_as = "RedisUnavailable"

    def __init__(self, message: str, *, cause: Cause = Cause.AWAY) -> None:
        super().__init__(message)
        self.cause = cause


class NoMaster(redis.ConnectionError):
    """No Sentinel answered with the address of a master."""


@contextmanager
def unavailable() -> Iterator[None]:
    """Raise RedisUnavailable for every error of Redis in the block."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        # OOM, READONLY and LOADING are ResponseErrors; TimeoutError is no ConnectionError; an answer that is
        # not in Redis's protocol causes ValueError, TypeError, AttributeError and others. All mean that Redis
        # cannot be used now.
        raise told(error) from error


def told(error: Exception) -> RedisUnavailable:
    """Return the error of a call as one with a cause, in words that name the cause."""
    words = _ARGUMENTS.sub("", _OF_REDIS_PY.sub("", str(error))).strip()[:_LONGEST_TEXT]
    words = words or type(error).__name__
    cause = _cause(error, words)
    return RedisUnavailable(f"{_TEXTS[cause]}: {words}", cause=cause)


def _cause(error: Exception, words: str) -> Cause:
    if isinstance(error, NoMaster):
        return Cause.NO_MASTER
    # A connection that Sentinel manages turns READONLY into a ConnectionError.
    of_class = error.__context__ if isinstance(error.__context__, redis.ReadOnlyError) else error
    for kind, cause in _CLASSES:
        if isinstance(of_class, kind):
            return cause
    begin = words.lower()
    for beginning, cause in _BEGINNINGS:
        if begin.startswith(beginning):
            return cause
    if "SSL" in words or "certificate" in begin:
        return Cause.TLS
    if isinstance(error, redis.ResponseError):
        return Cause.REFUSED
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
        return Cause.AWAY
    return Cause.NOT_REDIS


#: An outage is logged by the loops that notice it, and a key of another type where it is moved aside.
_LOGGED_ELSEWHERE: Final = frozenset([Cause.AWAY, Cause.WRONG_TYPE])


class FaultLog:
    """Logs each cause once per process, when it begins."""

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        # Used without a lock: at worst, two threads log the same cause.
        self._last: dict[tuple[str, ...], float] = {}

    def put(self, error: RedisUnavailable, operation: str) -> None:
        """Log the cause of a failed call, unless it is known."""
        if error.cause in _LOGGED_ELSEWHERE:
            return
        about: list[str] = [error.cause]
        # The server's words vary with the command. They are told apart only if the remedy depends on them.
        if error.cause in {Cause.NO_RIGHT, Cause.NO_COMMAND, Cause.REFUSED}:
            about.append(error.message)
        # These words may not name the key.
        if error.cause is Cause.NO_RIGHT:
            about.append(operation)
        if self.is_new(*about):
            log.warning(
                "redis.refused",
                cause=str(error.cause),
                operation=operation,
                reason=error.message,
                remedy=error.cause.remedy,
            )

    def is_new(self, *about: str) -> bool:
        """Return whether something should be logged now: it did not occur for ten minutes."""
        now, last = self._clock.monotonic(), self._last.get(about)
        if last is None and len(self._last) >= _MOST_LOGGED:
            return False
        self._last[about] = now
        return last is None or now - last > _FORGOTTEN_AFTER
