"""Warns at boot of job names that another service defines as well: each would take the other's jobs."""

from collections.abc import Mapping

import structlog

from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.dramatiq.definition import JobDefinition

log = structlog.get_logger(__name__)


def warn_of_shared_names(catalogue: Catalogue, definitions: Mapping[str, JobDefinition]) -> None:
    """Log each job of this process that live workers define in another module."""
    for version in catalogue.versions():
        own = definitions.get(version.type.name)
        other = version.type.module
        if own is not None and version.workers and other not in {None, own.type.module}:
            log.warning(
                "job.name_shared", job=version.type.name, module=own.type.module, other=other,
                then="both take jobs of this name; set @job(namespace=...) or CALLBOARD_APP",
            )  # fmt: skip
