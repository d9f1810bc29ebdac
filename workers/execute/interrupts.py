"""The reasons for which a running job is interrupted, as exceptions that are raised inside the job."""

from dramatiq.middleware import Shutdown, TimeLimitExceeded
from dramatiq.threading import Interrupt


class JobInterrupt(Interrupt):
    """A running job is interrupted. A BaseException, so `except Exception` in a job does not catch it."""


class CancelInterrupt(JobInterrupt):
    """A stop of the job was requested."""


class TimeoutInterrupt(JobInterrupt, TimeLimitExceeded):
    """The attempt took longer than its timeout. Jobs may catch it as Dramatiq's TimeLimitExceeded."""


class ShutdownInterrupt(JobInterrupt, Shutdown):
    """The worker's grace period is over. Jobs may catch it as Dramatiq's Shutdown."""
