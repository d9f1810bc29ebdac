"""Arguments that are too large for a claim are read after it, for as many jobs as fit into memory."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.claimed_job import ClaimedJob

#: The arguments are read in steps of this many jobs, until this many bytes are in memory.
_STEP: Final = 4
_BYTES: Final = 16 * 1024 * 1024

log = structlog.get_logger(__name__)


def with_arguments(
    claimed: list[ClaimedJob], read: Callable[[Sequence[UUID]], dict[UUID, tuple[str, str]]]
) -> list[ClaimedJob]:
    """Return the claimed jobs with their arguments. At least a few are read.

    read: returns the arguments of these jobs as JSON.

    The other jobs have an empty `args_json`; the worker must hand them back.
    """
    large = [job.id for job in claimed if not job.args_json]
    if not large:
        return claimed
    found: dict[UUID, tuple[str, str]] = {}
    try:
        while large and sum(len(args) + len(kwargs) for args, kwargs in found.values()) < _BYTES:
            step, large = large[:_STEP], large[_STEP:]
            found |= read(step)
    except Unavailable as error:
        log.debug("claim.large_arguments_unread", reason=error.message, jobs=len(large))
    return [
        job._replace(args_json=found[job.id][0], kwargs_json=found[job.id][1]) if job.id in found else job
        for job in claimed
    ]
