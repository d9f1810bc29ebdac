"""Callboard: durable background jobs for Python. These are the names that programs import.

Each name is loaded when it is first used, so `import callboard` costs next to nothing.
"""

# Type checkers take this name as true. It is not imported from `typing`, because that import is slow.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from callboard.jobs.async_client import AsyncClient
    from callboard.jobs.attempts.carrying import carry
    from callboard.jobs.attempts.context import RunningJob, current_job
    from callboard.jobs.client import Client
    from callboard.jobs.dramatiq.actor import job
    from callboard.jobs.errors import CallboardError
    from callboard.jobs.model.job import Job
    from callboard.jobs.model.outcomes import Cancel, Fail, Retry, Snooze
    from callboard.jobs.model.retry import RetryPolicy
    from callboard.jobs.model.states import JobState
    from callboard.jobs.model.unique import Unique

__all__ = [
    "AsyncClient",
    "CallboardError",
    "Cancel",
    "Client",
    "Fail",
    "Job",
    "JobState",
    "Retry",
    "RetryPolicy",
    "RunningJob",
    "Snooze",
    "Unique",
    "carry",
    "current_job",
    "job",
]

_HOMES = {
    "AsyncClient": "async_client",
    "CallboardError": "errors",
    "Cancel": "model.outcomes",
    "Client": "client",
    "Fail": "model.outcomes",
    "Job": "model.job",
    "JobState": "model.states",
    "Retry": "model.outcomes",
    "RetryPolicy": "model.retry",
    "RunningJob": "attempts.context",
    "Snooze": "model.outcomes",
    "Unique": "model.unique",
    "carry": "attempts.carrying",
    "current_job": "attempts.context",
    "job": "dramatiq.actor",
}


if not TYPE_CHECKING:  # or type checkers would accept every name

    def __getattr__(name: str) -> object:
        from importlib import import_module

        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'callboard' has no attribute {name!r}")
        return getattr(import_module(f"callboard.jobs.{home}"), name)
