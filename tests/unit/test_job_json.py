"""Jobs as JSON: what is written is what the model describes."""

from dataclasses import fields

from callboard.api.schemas import JobObject
from callboard.jobs.model.job import Job


def test_every_field_that_is_shown_is_one_that_a_job_has():
    assert {field.name for field in fields(Job)}.issuperset(JobObject.model_fields)
