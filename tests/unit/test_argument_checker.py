"""The check of arguments at an enqueue. It has the published schema, but not the function."""

import typing
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from callboard.jobs.definitions.arguments import ArgumentBinder, describe
from callboard.jobs.definitions.catalogue import ArgumentChecker
from callboard.jobs.errors import InvalidArguments, InvalidInput

ID = UUID("0190f1d2-0000-7000-8000-000000000000")


def report(account_id: int, month: str, *, pages: int = 12): ...


def check(function: typing.Callable[..., object], *args: object) -> None:
    ArgumentChecker(describe(function).schema).check(args, {})


def test_it_reads_texts_for_dates_as_the_worker_does():
    def function(at: datetime): ...

    for text in ("2026-10-01T10:00:00Z", "2026-10-01 10:00", "2026-10-01", "2026-10-01T10:00:00.5+02:00"):
        check(function, text)
        ArgumentBinder(function, coerce=True).bind([text], {})


def test_one_checker_serves_many_calls():
    checker = ArgumentChecker(describe(report).schema)
    for _ in range(3):
        checker.check([7, "m"], {})
        with pytest.raises(InvalidArguments):
            checker.check([7], {})


def test_what_is_not_json_is_refused():
    with pytest.raises(InvalidArguments, match="cannot be written as JSON"):
        check(report, object(), "m")
    with pytest.raises(InvalidArguments, match="lone surrogate"):
        check(report, "\ud800", "m")


def test_values_that_will_be_written_as_json_are_judged_as_written():
    def function(at: datetime, ids: list[UUID], price: Decimal): ...

    check(function, datetime(2026, 1, 1, tzinfo=UTC), [ID], Decimal("1.10"))
    with pytest.raises(InvalidArguments, match=r"args\[0\]: must be a date-time"):
        check(function, ID, [ID], Decimal(1))


@pytest.mark.parametrize(
    "schema",
    [{"type": "nonsense"}, {"properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}, {"pattern": "["}],
)
def test_a_schema_that_is_none_is_refused_and_nothing_is_fetched(schema):
    with pytest.raises(InvalidInput, match="is not valid"):
        ArgumentChecker(schema)


def test_a_schema_written_by_hand_works():
    checker = ArgumentChecker({"type": "object", "properties": {"n": {"type": "integer"}}})
    checker.check([], {"n": 1, "other": 2})
    with pytest.raises(InvalidArguments, match=r"kwargs\.n"):
        checker.check([], {"n": "x"})
    with pytest.raises(InvalidArguments, match="one too many"):
        checker.check([1], {})
