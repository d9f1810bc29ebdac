"""The names of errors in the database: a changed name needs a migration of stored rows."""

from importlib import import_module
from pkgutil import walk_packages

import pytest

from callboard import jobs
from callboard.jobs import errors
from callboard.jobs.attempts.context import JobEnded, NotInAJob
from callboard.jobs.attempts.repository import rescuing
from callboard.jobs.attempts.verdict import TimedOut
from callboard.jobs.dramatiq.declarations import JobNameTaken
from callboard.jobs.errors import CallboardError
from callboard.jobs.loop_calls import ClientClosed, WrongEventLoop
from callboard.jobs.model import outcomes
from callboard.jobs.model.outcomes import Outcome
from callboard.jobs.redis.faults import RedisUnavailable
from callboard.testing.needs_servers import NeedsServers

STORED = {
    errors.CallboardError: "CallboardError",
    errors.InvalidInput: "InvalidInput",
    errors.InvalidArguments: "InvalidArguments",
    errors.NotStorable: "NotStorable",
    errors.UnknownJob: "UnknownJob",
    errors.NotFound: "NotFound",
    errors.Conflict: "Conflict",
    errors.Unauthorized: "Unauthorized",
    errors.Forbidden: "Forbidden",
    errors.RateLimited: "RateLimited",
    errors.PayloadTooLarge: "PayloadTooLarge",
    errors.UnsupportedMediaType: "UnsupportedMediaType",
    errors.Unavailable: "Unavailable",
    errors.Busy: "Busy",
    errors.SchemaMismatch: "SchemaMismatch",
    errors.NotShown: "NotShown",
    errors.Duplicate: "Duplicate",
    errors.JobUnsuccessful: "JobUnsuccessful",
    errors.WaitTimeout: "WaitTimeout",
    outcomes.Retry: "Retried",
    outcomes.Snooze: "Snoozed",
    outcomes.Cancel: "Cancelled",
    outcomes.Fail: "Failed",
    NotInAJob: "NotInAJob",
    JobEnded: "JobEnded",
    JobNameTaken: "JobNameTaken",
    ClientClosed: "ClientClosed",
    WrongEventLoop: "WrongEventLoop",
    RedisUnavailable: "RedisUnavailable",
    NeedsServers: "NeedsServers",
    TimedOut: "TimedOut",
}


def every_error_of_ours():
    for module in walk_packages(jobs.__path__, "callboard.jobs."):
        if ".migrations" not in module.name:
            import_module(module.name)
    found, bases = set(), [CallboardError, Outcome]
    while bases:
        base = bases.pop()
        found.add(base)
        bases.extend(base.__subclasses__())
    return {kind for kind in found if kind.__module__.startswith("callboard.")} - {Outcome}


@pytest.mark.parametrize(
    ("kind", "name"), STORED.items(), ids=lambda value: getattr(value, "__name__", value)
)
def test_each_error_of_ours_has_the_name_under_which_it_has_always_been_stored(kind, name):
    assert vars(kind)["stored_as"] == name


def test_no_error_of_ours_is_without_a_name_of_its_own():
    assert {kind for kind in every_error_of_ours() if "stored_as" not in vars(kind)} == set()


def test_what_sql_writes_of_killed_attempts_is_what_a_living_worker_writes():
    assert TimedOut.stored_as == rescuing.TIMED_OUT
    assert outcomes.Cancel.stored_as == rescuing.CANCELLED
