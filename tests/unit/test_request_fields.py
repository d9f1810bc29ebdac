"""The texts and times that a request to enqueue a job accepts."""

import pytest

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.request import job_request


@pytest.mark.parametrize("tag", ["a", "a b", "é", "漢字", "😀", "\U0010ffff", "x" * 100])
def test_a_tag_is_one_line_that_can_be_seen(tag):
    assert job_request({"name": "a", "tags": [tag]}).tags == [tag]


@pytest.mark.parametrize(
    "tag",
    ["", "\0", "a\nb", "\t", "\x7f", "\x85", "\xa0", "\xad", "\u200b", "\u2028", "\u202e", "\u2066", "\u3000",
     "\ufeff", "\ufffe", "\ud800", "x" * 101],
)  # fmt: skip
def test_what_cannot_be_seen_in_one_line_is_no_tag(tag):
    for field, value in (("tags", [tag]), ("unique_key", tag * 2), ("limit_key", tag * 2)):
        with pytest.raises(InvalidInput) as caught:
            job_request({"name": "a", field: value})
        assert field in caught.value.message


@pytest.mark.parametrize(
    "at", ["1970-01-01T00:00:00+14:00", "2999-12-31T23:59:59-12:00", "2026-11-22T09:00:00Z"]
)
def test_a_time_is_in_the_years_1970_to_2999_where_it_is_written(at):
    assert job_request({"name": "a", "run_at": at}).run_at is not None


@pytest.mark.parametrize(
    "at", ["1969-12-30T23:00:00Z", "3000-01-02T00:00:01Z", "2026-11-22T09:00:00", "2026-11-22", 7]
)
def test_a_time_outside_them_or_without_an_offset_is_refused(at):
    with pytest.raises(InvalidInput, match="run_at"):
        job_request({"name": "a", "run_at": at})


@pytest.mark.parametrize("value", [True, "yes", 1])
def test_only_true_and_false_are_booleans(value):
    if value is True:
        assert job_request({"name": "a", "unchecked": value}).unchecked
        return
    with pytest.raises(InvalidInput, match="unchecked"):
        job_request({"name": "a", "unchecked": value})


@pytest.mark.parametrize("field", ["timeout", "hard_timeout"])
def test_a_timeout_is_not_zero(field):
    assert job_request({"name": "a", field: "0.000001s"})
    for zero in ("0s", "0.0h", "0d0h"):
        with pytest.raises(InvalidInput, match="longer than 0s"):
            job_request({"name": "a", field: zero})
