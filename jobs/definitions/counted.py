"""Counts and logs the versions that a publication changed."""

from collections.abc import Sequence
from typing import Final

import structlog

from callboard.jobs.metrics import JOB_VERSIONS_PUBLISHED
from callboard.jobs.model.job_type import PublishedVersion

_MOST_LOGGED: Final = 20

log = structlog.get_logger(__name__)


def count(published: Sequence[PublishedVersion]) -> None:
    """Count and log the versions that are new, or the newest again."""
    changed = [one for one in published if one.change != "unchanged"]
    for one in changed:
        JOB_VERSIONS_PUBLISHED.labels(one.change).inc()
    if changed:
        versions = [f"{one.key} ({one.change})" for one in changed[:_MOST_LOGGED]]
        log.info("job_types.published", count=len(changed), versions=versions)
