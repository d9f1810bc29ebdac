"""The names that job code and its callers import.

Adding one is fine; a name that goes or changes is a break.
"""

import subprocess
import sys

import pytest

import callboard

PUBLIC = [
    "AsyncClient",
    "CallboardError",
    "Cancel",
    "Client",
    "Fail",
    "Job",
    "JobState",
    "Retry",
    "RetryPolicy",
    "RunningJob",
    "Snooze",
    "Unique",
    "carry",
    "current_job",
    "job",
]


def test_the_public_names_are_these():
    assert callboard.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_can_be_imported(name):
    assert getattr(callboard, name).__name__ == name


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'enqueue'"):
        callboard.enqueue  # noqa: B018 - the access is the test


def test_importing_callboard_imports_nothing_else():
    program = "import sys, callboard; print([name for name in ('dramatiq', 'sqlalchemy', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
