"""The errors of Callboard. Each has a stable code, which is the same in Python, the CLI, HTTP and logs.

CallboardError
├── InvalidInput          VALIDATION_ERROR   a value is not valid
│   ├── InvalidArguments  INVALID_ARGUMENTS  a job's arguments do not match its signature
│   └── NotStorable       VALIDATION_ERROR   a value that a job cannot hold: NaN, NUL, too deep, too long
├── UnknownJob            UNKNOWN_JOB        no worker has published a job of this name
├── NotFound              NOT_FOUND          the named object does not exist
├── Conflict              CONFLICT           the current state does not allow the request
├── Unauthorized          UNAUTHORIZED       the caller is not authenticated
├── Forbidden             FORBIDDEN          the caller is authenticated but has no permission
├── RateLimited           RATE_LIMITED       there were too many requests of this kind; try again later
├── PayloadTooLarge       PAYLOAD_TOO_LARGE  the request is larger than the limit
├── UnsupportedMediaType  UNSUPPORTED_MEDIA_TYPE  the body's media type or encoding is not accepted
├── Unavailable           UNAVAILABLE        a required service does not answer; try again
│   ├── Busy              UNAVAILABLE        Postgres refused or cancelled the statement; try again
│   └── SchemaMismatch    UNAVAILABLE        the tables have a version that this program cannot use
├── JobUnsuccessful       JOB_UNSUCCESSFUL   a job that was waited for did not succeed
└── WaitTimeout           TIMED_OUT          a job that was waited for has not ended yet
"""

from collections.abc import Mapping
from typing import ClassVar


class CallboardError(Exception):
    """The base of all errors of Callboard.

    message: one line that says what is wrong and how to fix it.
    fields:  for invalid input: the path of each bad value ("kwargs.month"), and what is wrong with it.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    #: The error's name in a job's `errors`. It never changes, even when the class is renamed or moved.
    stored_as: ClassVar[str] = "CallboardError"

    def __init__(self, message: str, *, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields: dict[str, str] = dict(fields or {})


class InvalidInput(CallboardError):
    """A value is not valid."""

    code = "VALIDATION_ERROR"
    stored_as = "InvalidInput"


class InvalidArguments(InvalidInput):
    """A job's arguments do not match its signature."""

    code = "INVALID_ARGUMENTS"
    stored_as = "InvalidArguments"


class NotStorable(InvalidInput):
    """A value that a job cannot hold. The message names its place."""

    stored_as = "NotStorable"


class UnknownJob(CallboardError):
    """No worker has published a job of this name."""

    code = "UNKNOWN_JOB"
    stored_as = "UnknownJob"


class NotFound(CallboardError):
    """The named object does not exist."""

    code = "NOT_FOUND"
    stored_as = "NotFound"


class Conflict(CallboardError):
    """The current state does not allow the request."""

    code = "CONFLICT"
    stored_as = "Conflict"


class Duplicate(Conflict):
    """A row with the same unique value already exists. `constraint` is the name of the unique constraint."""

    stored_as = "Duplicate"

    def __init__(self, message: str, *, constraint: str = "") -> None:
        super().__init__(message)
        self.constraint = constraint


class Unauthorized(CallboardError):
    """The caller is not authenticated."""

    code = "UNAUTHORIZED"
    stored_as = "Unauthorized"


class Forbidden(CallboardError):
    """The caller is authenticated but has no permission."""

    code = "FORBIDDEN"
    stored_as = "Forbidden"


class RateLimited(CallboardError):
    """There were too many requests of this kind. `retry_after`: after how many seconds to try again."""

    code = "RATE_LIMITED"
    stored_as = "RateLimited"

    def __init__(self, message: str, *, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PayloadTooLarge(CallboardError):
    """The request is larger than the limit."""

    code = "PAYLOAD_TOO_LARGE"
    stored_as = "PayloadTooLarge"


class UnsupportedMediaType(CallboardError):
    """The body's media type or content encoding is not accepted."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    stored_as = "UnsupportedMediaType"


class Unavailable(CallboardError):
    """A required service does not answer; try again. The interrupted request may have been executed."""

    code = "UNAVAILABLE"
    stored_as = "Unavailable"


class Busy(Unavailable):
    """Postgres answers, but refused or cancelled this statement: a lock, a timeout, or a conflict.

    Nothing was changed; try again.
    """

    stored_as = "Busy"


class SchemaMismatch(Unavailable):
    """The tables are missing or have a version that this program cannot use; run 'callboard db upgrade'."""

    stored_as = "SchemaMismatch"


class NotShown(Unavailable):
    """Jobs are committed, but cannot be read back. `advice` is the message without the technical reason."""

    stored_as = "NotShown"

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice or message


class JobUnsuccessful(CallboardError):
    """A job that was waited for did not succeed."""

    code = "JOB_UNSUCCESSFUL"
    stored_as = "JobUnsuccessful"


class WaitTimeout(CallboardError):
    """A job that was waited for has not ended yet."""

    code = "TIMED_OUT"
    stored_as = "WaitTimeout"
