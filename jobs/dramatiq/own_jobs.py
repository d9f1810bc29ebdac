"""Makes the types of the jobs that this process has imported."""

from importlib import import_module
from typing import Any

import dramatiq

from callboard.jobs.model.job_type import JobType


def own_type(actor: dramatiq.Actor[..., Any]) -> JobType:
    """Return the type of an actor's job. Raises InvalidInput when no job can be made of the actor."""
    # By name, because the module of definitions imports the broker, which uses this function.
    kind: JobType = import_module("callboard.jobs.dramatiq.definition").define(actor).type
    return kind
