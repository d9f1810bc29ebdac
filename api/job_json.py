"""Jobs as JSON, as JobObject describes them, and what deliveries came to; straight from the records, a quarter of a model's work.

Every answer that shows a job comes from here, also the hundreds of a page.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import orjson

from callboard.api.schemas import DeliveryResult, JobObject
from callboard.jobs.model.durations import exact_duration
from callboard.jobs.model.job import Job
from callboard.jobs.webhooks.deliveries import Accepted

#: What a job's record has and nobody is shown stays out.
_SHOWN: Final = tuple(JobObject.model_fields)
_TOLD: Final = tuple(DeliveryResult.model_fields)


def job_json(job: Job) -> bytes:
    """One job."""
    return _dump(_shown(job))


def jobs_json(jobs: Sequence[Job], next_cursor: str | None = None) -> bytes:
    """A page of them."""
    return _dump({"items": [_shown(job) for job in jobs], "next_cursor": next_cursor})


def delivery_json(accepted: Accepted) -> bytes:
    """What a delivery came to."""
    return _dump({name: getattr(accepted, name) for name in _TOLD})


def _shown(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _SHOWN}


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z)


def _plain(value: object) -> str:
    if isinstance(value, timedelta):
        return exact_duration(value)
    raise TypeError
