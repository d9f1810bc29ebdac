"""The arguments that a job accepts, as its function's signature describes them."""

import dataclasses
import enum
import functools
import json
import math
import typing
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import jsonschema_rs
import pytest
from pydantic import BaseModel

from callboard.jobs.definitions.arguments import ArgumentSpec, describe
from callboard.jobs.errors import InvalidInput

if typing.TYPE_CHECKING:
    from nowhere import Missing


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    since: datetime | None = None


class Node(BaseModel):
    name: str
    below: "list[Node]" = []


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Handle:
    """Something pydantic knows nothing of."""


def report(account_id: int, month: str, *, pages: int = 12): ...


def bare(a, b=2, *args, c, **kwargs): ...


def first_only(a: int, /, b: int = 0, **rest: int): ...


def texts(at: "datetime", ids: "list[UUID]", unknown: "Missing" = None): ...


def rich(
    home: Address, point: Point, colour: Colour, price: Decimal, *, wait: timedelta, tree: Node | None = None
): ...


def test_positions_that_must_be_are_listed():
    schema = describe(first_only).schema
    assert schema["x-parameters"] == ["a", "b"]
    assert schema["x-positional-only"] == ["a"]
    assert schema["additionalProperties"] == {"type": "integer"}


def test_a_signature_becomes_a_json_schema():
    assert describe(report).schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "account_id": {"type": "integer"},
            "month": {"type": "string"},
            "pages": {"type": "integer", "default": 12},
        },
        "required": ["account_id", "month"],
        "additionalProperties": False,
        "x-parameters": ["account_id", "month"],
        "x-var-positional": False,
    }


@pytest.mark.parametrize("function", [report, bare, first_only, texts, rich], ids=lambda f: f.__name__)
def test_a_schema_survives_json_and_is_valid(function):
    schema = describe(function).schema
    assert json.loads(json.dumps(schema)) == schema
    jsonschema_rs.meta.validate(schema)


def test_unannotated_parameters_accept_anything():
    schema = describe(bare).schema
    assert schema["properties"] == {"a": {}, "b": {"default": 2}, "c": {}}
    assert schema["required"] == ["a", "c"]
    assert schema["additionalProperties"] is True
    assert schema["x-parameters"] == ["a", "b"]
    assert schema["x-var-positional"] is True


def test_annotations_that_are_texts_are_read():
    properties = describe(texts).schema["properties"]
    assert properties["at"] == {"type": "string", "format": "date-time"}
    assert properties["ids"] == {"type": "array", "items": {"type": "string", "format": "uuid"}}


def test_an_annotation_that_cannot_be_read_accepts_anything():
    assert describe(texts).schema["properties"]["unknown"] == {"default": None}


@pytest.mark.parametrize("annotation", [Handle, "not python(", 3, typing.Callable[[int], int], "1/0", type])
def test_an_annotation_without_a_schema_accepts_anything(annotation):
    def function(x): ...

    function.__annotations__["x"] = annotation
    assert describe(function).schema["properties"] == {"x": {}}


def test_a_default_of_none_makes_the_parameter_optional():
    def function(month: str = None): ...  # noqa: RUF013

    accepted = describe(function).schema["properties"]["month"]
    assert accepted == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}


def test_models_are_shared_definitions():
    def function(a: Node, b: Node, c: list[Address]): ...

    schema = describe(function).schema
    assert set(schema["$defs"]) == {"Node", "Address"}
    assert schema["properties"]["a"] == schema["properties"]["b"] == {"$ref": "#/$defs/Node"}


def test_a_default_that_json_cannot_say_is_left_out():
    def function(a=Handle(), b=math.nan, c="x" * 5_000, d=Colour.RED, e=(1, 2), f=None): ...  # noqa: B008

    assert describe(function).schema["properties"] == {
        "a": {}, "b": {}, "c": {}, "d": {}, "e": {}, "f": {"default": None}
    }  # fmt: skip


def test_what_can_be_called_can_be_described():
    class Service:
        def method(self, n: "int"): ...

        def __call__(self, n: "int"): ...

    assert describe(Service().method).schema["properties"] == {"n": {"type": "integer"}}
    assert describe(Service()).schema["properties"] == {"n": {"type": "integer"}}
    assert describe(functools.partial(report, 7)).schema["required"] == ["month"]
    assert describe(Point).schema["required"] == ["x"]


def test_what_has_no_signature_is_refused():
    with pytest.raises(InvalidInput, match="signature"):
        describe(dict)
    with pytest.raises(InvalidInput, match="signature"):
        describe(3)


def test_a_spec_is_a_value():
    assert describe(report) == ArgumentSpec(describe(report).schema)
