"""Jobs as JSON, as JobObject describes them; written straight from the records, a quarter of the work of a model.

Every answer that shows a job comes from here, also the hundreds of a page.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import orjson

from api.schemas import JobObject
from jobs.durations import exact_duration
from jobs.records import Job

#: What a job's record has and nobody is shown stays out.
_SHOWN: Final = tuple(JobObject.model_fields)


def job_json(job: Job) -> bytes:
    """One job."""
    return _dump(_shown(job))


def jobs_json(jobs: Sequence[Job], next_cursor: str | None = None) -> bytes:
    """A page of them."""
    return _dump({"items": [_shown(job) for job in jobs], "next_cursor": next_cursor})


def _shown(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _SHOWN}


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z)


def _plain(value: object) -> str:
    if isinstance(value, timedelta):
        return exact_duration(value)
    raise TypeError
