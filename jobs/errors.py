"""The errors of Callboard: one base, one stable code each, the same in Python, CLI, HTTP and logs.

CallboardError
├── InvalidInput          VALIDATION_ERROR   a value that was given does not fit
│   └── InvalidArguments  INVALID_ARGUMENTS  a job's arguments do not fit its signature
├── UnknownJob            UNKNOWN_JOB        no worker has published a job of this name
├── NotFound              NOT_FOUND
├── Conflict              CONFLICT           the state of things does not allow it
├── Unauthorized          UNAUTHORIZED       who are you
├── Forbidden             FORBIDDEN          you may not
├── PayloadTooLarge       PAYLOAD_TOO_LARGE
├── Unavailable           UNAVAILABLE        a service that is needed does not answer; try again
├── JobUnsuccessful       JOB_UNSUCCESSFUL   the job that was waited for ended otherwise than succeeded
└── WaitTimeout           TIMED_OUT          the job that was waited for is not done yet
"""

from collections.abc import Mapping
from typing import ClassVar


class CallboardError(Exception):
    """Something Callboard can name.

    message: one line that says what is wrong and how to mend it.
    fields:  for input errors, the path of each bad value ("kwargs.month") and what is wrong with it.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    #: The error's name in a job's `errors`. It never changes, even when the class is renamed or moved.
    stored_as: ClassVar[str] = "CallboardError"

    def __init__(self, message: str, *, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields: dict[str, str] = dict(fields or {})


class InvalidInput(CallboardError):
    """A value that was given does not fit."""

    code = "VALIDATION_ERROR"
    stored_as = "InvalidInput"


class InvalidArguments(InvalidInput):
    """A job's arguments do not fit its signature."""

    code = "INVALID_ARGUMENTS"
    stored_as = "InvalidArguments"


class UnknownJob(CallboardError):
    """No worker has published a job of this name."""

    code = "UNKNOWN_JOB"
    stored_as = "UnknownJob"


class NotFound(CallboardError):
    """There is no such thing."""

    code = "NOT_FOUND"
    stored_as = "NotFound"


class Conflict(CallboardError):
    """The state of things does not allow it."""

    code = "CONFLICT"
    stored_as = "Conflict"


class Unauthorized(CallboardError):
    """The caller is not known."""

    code = "UNAUTHORIZED"
    stored_as = "Unauthorized"


class Forbidden(CallboardError):
    """The caller is known and may not do this."""

    code = "FORBIDDEN"
    stored_as = "Forbidden"


class PayloadTooLarge(CallboardError):
    """More bytes than the bound allows."""

    code = "PAYLOAD_TOO_LARGE"
    stored_as = "PayloadTooLarge"


class Unavailable(CallboardError):
    """A service that is needed does not answer; try again. What was under way when it went away may have been done."""

    code = "UNAVAILABLE"
    stored_as = "Unavailable"


class Busy(Unavailable):
    """Somebody's open transaction holds what this needs; nothing was done, try again."""

    stored_as = "Busy"


class JobUnsuccessful(CallboardError):
    """The job that was waited for ended otherwise than succeeded."""

    code = "JOB_UNSUCCESSFUL"
    stored_as = "JobUnsuccessful"


class WaitTimeout(CallboardError):
    """The job that was waited for is not done yet."""

    code = "TIMED_OUT"
    stored_as = "WaitTimeout"
