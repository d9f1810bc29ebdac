"""JSON that Postgres can store."""

import dataclasses
import enum
import math
import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from callboard.jobs.definitions.arguments import encode
from callboard.jobs.errors import InvalidInput, NotStorable
from callboard.jobs.model.basics.exact_json import exact
from callboard.jobs.model.basics.stored_json import parsed

ID = UUID("0190f1d2-0000-7000-8000-000000000000")


class Colour(enum.Enum):
    RED = "red"


class Address(BaseModel):
    street: str
    since: datetime | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


def written(value: object, limit: int = 1_000_000) -> object:
    return parsed(encode(value, limit=limit, what="result"))


def refusal(value: object, limit: int = 1_000_000) -> str:
    with pytest.raises(InvalidInput) as caught:
        encode(value, limit=limit, what="result")
    [place] = caught.value.fields
    assert place.startswith("result")
    assert caught.value.message == f"{place} {caught.value.fields[place]}"
    return caught.value.message


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        lambda inner: st.lists(inner)
        | st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0")), inner),
    )
)  # fmt: skip
def test_json_comes_back_as_it_was(value):
    assert repr(written(value)) == repr(value)


def test_what_the_binder_reads_can_be_written():
    value = {
        "at": datetime(2026, 10, 1, tzinfo=UTC), "id": ID, "day": date(2026, 10, 1), "colour": Colour.RED,
        "price": Decimal("1.10"), "point": Point(1), "home": Address(street="Main"), "pair": (1, 2),
    }  # fmt: skip
    assert written(value) == {
        "at": "2026-10-01T00:00:00+00:00", "id": str(ID), "day": "2026-10-01", "colour": "red",
        "price": "1.10", "point": {"x": 1, "y": 0}, "home": {"street": "Main", "since": None}, "pair": [1, 2],
    }  # fmt: skip


class Number(int): ...


class Ratio(float):
    def __float__(self) -> float:
        return math.inf


class Word(str):  # noqa: SLOT000
    def __contains__(self, _: object) -> bool:
        return False


def test_a_subclass_of_a_plain_type_is_written_as_its_plain_value():
    for value in (5, -(2**63), 2**64, 2**70):
        # 1e16: such a float has the whole value rewritten.
        assert repr(written([Number(value), 1e16])) == repr([value, 1e16])
    assert repr(written([Ratio(1.5), Ratio(1e300), Word("a"), 1e16])) == "[1.5, 1e+300, 'a', 1e+16]"
    assert "NUL" in refusal([Word("\0")])


def test_a_field_of_a_dataclass_that_is_not_set_is_left_out():
    @dataclasses.dataclass
    class Order:
        note: float | None
        total: int = dataclasses.field(init=False)

    assert written([Order(None), Order(1e16)]) == [{"note": None}, {"note": 1e16}]
    assert "is NaN" in refusal(Order(math.nan))


def test_the_limit_is_in_bytes_and_exact():
    assert written("é", limit=4) == "é"
    assert "is 4 bytes of JSON, at most 3 are accepted" in refusal("é", limit=3)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused_wherever_they_are(number):
    class Reading(BaseModel):
        value: float

    @dataclasses.dataclass
    class Sample:
        value: float

    for value in (number, [1, [number]], {"a": {"b": number}}, Reading(value=number), [Sample(number)]):
        assert "is NaN or an infinity" in refusal(value)
    assert written({"a": None, "b": "null", "c": [None]}) == {"a": None, "b": "null", "c": [None]}


@pytest.mark.parametrize("value", ["\0", {"a": ["x\0y"]}, {"k\0": 1}, {"a": [["\0"]]}])
def test_a_nul_character_is_refused_wherever_it_is(value):
    assert "NUL" in refusal(value)


def test_a_text_that_only_spells_a_nul_passes():
    assert written({"a": "\\u0000", "b\\u0000": 1}) == {"a": "\\u0000", "b\\u0000": 1}


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {None: 1},
        {(1, 2): 3},
        object(),
        {1, 2},
        b"x",
        ...,
    ],
)
def test_what_json_in_postgres_cannot_hold_is_refused(value):
    assert "cannot be written as JSON" in refusal([value])


def test_nesting_is_bounded_at_a_hundred():
    def nested(depth: int) -> object:
        value: object = 1
        for level in range(depth):
            value = [value] if level % 2 else {"a": value}
        return value

    assert written(nested(100)) == nested(100)
    assert "nested deeper than 100" in refusal(nested(101))
    for depth in (300, 5_000):
        refusal(nested(depth))


def test_many_lists_side_by_side_are_not_deep():
    assert written([[[]]] * 500) == [[[]]] * 500


def test_a_circle_is_refused():
    circle: list[object] = []
    circle.append(circle)
    refusal(circle)


def test_a_value_whose_own_code_fails_is_refused():
    class Broken(BaseModel):
        def model_dump(self, **_: object) -> dict[str, object]:
            raise ZeroDivisionError

    assert "Broken" in refusal(Broken())


@pytest.mark.parametrize("number", [-0.0, 1e300, 10**300])
def test_numbers_that_would_fill_the_memory_when_written_out_are_refused(number):
    numbers = [number] * 300_000
    tracemalloc.start()
    with pytest.raises(NotStorable, match="too many numbers that take hundreds of digits"):
        exact(numbers, "kwargs", limit=2 * 1024 * 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
