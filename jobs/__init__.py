"""Callboard: durable background jobs. What job code and its callers import stands here.

Names are loaded when they are first used: importing `jobs` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.client import Client
    from jobs.context import RunningJob, current_job
    from jobs.definition import job
    from jobs.errors import CallboardError
    from jobs.outcomes import Cancel, Fail, Retry, Snooze
    from jobs.records import Job
    from jobs.retry import RetryPolicy
    from jobs.states import JobState
    from jobs.uniqueness import Unique

__all__ = [
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
    "current_job",
    "job",
]

_HOMES = {
    "CallboardError": "errors",
    "Cancel": "outcomes",
    "Client": "client",
    "Fail": "outcomes",
    "Job": "records",
    "JobState": "states",
    "Retry": "outcomes",
    "RetryPolicy": "retry",
    "Unique": "uniqueness",
    "RunningJob": "context",
    "Snooze": "outcomes",
    "current_job": "context",
    "job": "definition",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'jobs' has no attribute {name!r}")
    return getattr(import_module(f"jobs.{home}"), name)
