"""JSON Schemas that are known to compile, so that a worker need not load the validator to try it."""

import subprocess
import sys
from datetime import date, datetime, time, timedelta
from enum import Enum
from pathlib import Path
from re import Pattern
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import orjson
import pytest
from pydantic import AnyUrl, BaseModel, Field, SecretStr, TypeAdapter, WithJsonSchema
from pydantic.dataclasses import dataclass

from callboard.jobs.definitions.schema_validator import compile_schema
from callboard.jobs.definitions.signatures import describe
from callboard.jobs.definitions.standard_schemas import is_standard

ROOT = Path(__file__).parents[2]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(default=9, ge=1, le=9, multiple_of=1, description="how many are left")


class Dog(BaseModel):
    kind: Literal["dog"]
    puppies: "list[Dog]" = Field(default=[], max_length=12, examples=[[]])


@dataclass
class Point:
    x: float
    y: float = 0.0


class Pair(NamedTuple):
    left: int
    right: str


STANDARD = [
    int, str, float, bool, bytes, None, Colour, Cat, Dog, Point, Pair, datetime, date, time, timedelta, UUID,
    Path, SecretStr, AnyUrl, Pattern[str], int | None, list[int], tuple[int, str], tuple[int, ...], set[UUID],
    dict[str, list[Point]], dict[str, Any], Literal[1, "a"] | None,
    Annotated[Cat | Dog, Field(discriminator="kind")], Annotated[str, Field(min_length=1, max_length=5)],
]  # fmt: skip


def written(kind: Any) -> Any:
    return orjson.loads(orjson.dumps(TypeAdapter(kind).json_schema()))


@pytest.mark.parametrize("kind", STANDARD, ids=str)
def test_the_schema_of_a_usual_type_is_standard_and_compiles(kind):
    schema = written(kind)
    assert is_standard(schema)
    compile_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"type": ["string", "text"]},
        {"type": "string", "pattern": "("},
        {"type": "string", "minLength": -1},
        {"type": "string", "minLength": "1"},
        {"minimum": "1"},
        {"multipleOf": 0},
        {"required": ["a", "a"]},
        {"required": "a"},
        {"enum": 1},
        {"anyOf": []},
        {"anyOf": {"type": "string"}},
        {"properties": {"a": 1}},
        {"properties": ["a"]},
        {"items": "string"},
        {"additionalProperties": 1},
        {"title": 1},
        {"$defs": []},
        {"$ref": "#/$defs/Nothing"},
        {"$ref": "https://schemas.example/a.json"},
        {"$ref": 1},
        {"uniqueItems": "yes"},
        {"items": {"type": "string", "pattern": "("}},
        {"properties": {"a": {"prefixItems": [{"pattern": "("}]}}},
    ],
    ids=str,
)
def test_a_schema_that_does_not_compile_is_not_standard(schema):
    with pytest.raises(ValueError, match=r"."):
        compile_schema(schema)
    assert not is_standard(schema)


@pytest.mark.parametrize(
    "schema", [True, None, {"pattern": "a"}, {"$id": "a"}, {"x-of-mine": {"type": "text"}}]
)
def test_what_is_not_known_is_not_standard(schema):
    assert not is_standard(schema)


def test_a_parameter_whose_schema_does_not_compile_is_still_found():
    def job(text: Annotated[str, WithJsonSchema({"type": "string", "pattern": "("})], count: int): ...

    spec = describe(job)
    assert list(spec.unchecked) == ["text"]
    assert spec.schema["properties"] == {"text": {}, "count": {"type": "integer"}}


def test_the_jobs_of_the_examples_are_described_without_the_validator():
    program = """
import sys
import examples.jobs
from callboard.jobs.dramatiq.definition import define
jobs = [value for value in vars(examples.jobs).values() if hasattr(value, "actor_name")]
specs = [define(job).type for job in jobs]
print(len(specs), "jsonschema_rs" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    count, loaded = done.stdout.split()[-2:]
    assert int(count) > 5
    assert loaded == "False"
