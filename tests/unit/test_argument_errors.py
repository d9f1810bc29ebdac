"""Error texts for arguments: one bounded line for each field, the same at the enqueue and in the worker."""

import typing

import pytest
from pydantic import BaseModel, Field

from callboard.jobs.definitions.arguments import ArgumentBinder, describe
from callboard.jobs.definitions.catalogue import ArgumentChecker
from callboard.jobs.errors import InvalidArguments


class Address(BaseModel):
    street: str


class Cat(BaseModel):
    kind: typing.Literal["cat"]


class Dog(BaseModel):
    kind: typing.Literal["dog"]


class Choice(BaseModel):
    pet: typing.Annotated[Cat | Dog, Field(discriminator="kind")]


def report(account_id: int = 0, month: str = ""): ...


def check(function: typing.Callable[..., object], **kwargs: object) -> None:
    ArgumentChecker(describe(function).schema).check([], kwargs)


def bind(function: typing.Callable[..., object], **kwargs: object) -> None:
    ArgumentBinder(function, coerce=True).bind([], kwargs)


def fields_of(
    side: typing.Callable[..., object], function: typing.Callable[..., object], **kwargs: object
) -> dict[str, str]:
    with pytest.raises(InvalidArguments) as caught:
        side(function, **kwargs)
    first, reason = next(iter(caught.value.fields.items()))
    assert caught.value.message.startswith(f"{first}: {reason}")
    assert "\n" not in caught.value.message
    return caught.value.fields


@pytest.mark.parametrize("side", [check, bind])
@pytest.mark.parametrize("value", ["v" * 10_000, ["v" * 10_000], {"v" * 10_000: 1}, 10**300, None, 1.5, True])
def test_no_more_than_sixty_characters_of_a_value_are_shown(side, value):
    def function(a: Address, b: Choice, c: typing.Literal["x"], d: dict[str, int] | None, e: list[str]): ...

    kwargs = {
        "a": {"street": value},
        "b": {"pet": {"kind": value}},
        "c": value,
        "d": {"k" * 9_000: value},
        "e": [value],
    }
    fields = fields_of(side, function, **kwargs)
    assert "v" * 61 not in str(fields)
    assert "k" * 61 not in str(fields)
    assert all(len(field) < 700 and len(reason) < 300 for field, reason in fields.items())


@pytest.mark.parametrize("side", [check, bind])
def test_the_number_of_fields_in_an_error_is_bounded(side):
    def function(numbers: list[int]): ...

    assert len(fields_of(side, function, numbers=["x"] * 1_000)) == 20
    assert len(fields_of(side, report, **{f"k{n}": 1 for n in range(1_000)})) == 20


@pytest.mark.parametrize("side", [check, bind])
def test_a_name_of_several_lines_does_not_break_the_message(side):
    assert list(fields_of(side, report, **{"a\nb": 1})) == ["kwargs.'a\\nb'"]
