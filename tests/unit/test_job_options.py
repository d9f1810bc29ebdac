"""Options of `@job` that cannot be meant are refused where the job is defined, in a sentence."""

from datetime import timedelta
from typing import Any

import pytest

from callboard import RetryPolicy, job
from callboard.jobs.errors import InvalidInput


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 30}, 'a job\'s timeout is a duration above zero, such as "30s"'),
        ({"timeout": 0.5}, "not 0.5"),
        ({"timeout": "0s"}, "above zero"),
        ({"timeout": timedelta(days=-1)}, "above zero"),
        ({"hard_timeout": timedelta.max}, "a job's hard_timeout is a duration"),
        ({"retry": 3}, "a job's retry is a RetryPolicy, such as RetryPolicy(max_attempts=3), not 3"),
        ({"retry": RetryPolicy}, "a job's retry is a RetryPolicy"),
        ({"unique": True}, "a job's unique is a Unique"),
        ({"queue": None}, "queue"),
        ({"queue": "no queue!"}, "queue"),
        ({"queue": "q" * 300}, "queue"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_at_the_definition(
    options: dict[str, Any], message: str
) -> None:
    def refused_by_options() -> None: ...

    with pytest.raises(InvalidInput) as refused:
        job(**options)(refused_by_options)
    assert message in refused.value.message
