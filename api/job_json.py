"""Write jobs and delivery results as JSON, in the form that JobObject and DeliveryResult describe.

The JSON is written directly from the records, without a pydantic model: that takes a quarter of the time.
Every response with a job uses this module.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from callboard.api.schemas import DeliveryResult, JobObject
from callboard.jobs.model.basics.durations import exact_duration
from callboard.jobs.model.basics.exact_json import write
from callboard.jobs.model.job import Job
from callboard.jobs.webhooks.delivery import Accepted

#: A record has more fields than these; only these are public.
_JOB_FIELDS: Final = tuple(JobObject.model_fields)
_DELIVERY_FIELDS: Final = tuple(DeliveryResult.model_fields)


def job_json(job: Job) -> bytes:
    """Return one job as JSON."""
    return _dump(_job_fields(job))


def jobs_json(jobs: Sequence[Job], next_cursor: str | None = None) -> bytes:
    """Return a page of jobs as JSON."""
    return _dump({"items": [_job_fields(job) for job in jobs], "next_cursor": next_cursor})


def delivery_json(accepted: Accepted) -> bytes:
    """Return the result of a webhook delivery as JSON."""
    return _dump({name: getattr(accepted, name) for name in _DELIVERY_FIELDS})


def _job_fields(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _JOB_FIELDS}


def _dump(value: Any) -> bytes:
    return write(value, default=_plain, option=orjson.OPT_UTC_Z)


def _plain(value: object) -> str:
    if isinstance(value, timedelta):
        return exact_duration(value)
    if isinstance(value, datetime):
        # A time of a changed row that Python cannot hold, see jobs/model/unreadable.py.
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError
