"""What a job returned and nothing can store: its work is done, so it is never run again."""

import dataclasses
import enum
import json
from collections import namedtuple
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from callboard.jobs.attempts.verdict import Verdict
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import REFUSED_RESULT, Finish
from callboard.jobs.model.outcomes import Retry
from callboard.jobs.model.retry import RetryPolicy
from callboard.jobs.model.states import Verb

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB: Any = SimpleNamespace(
    id=new_id(),
    epoch=1,
    claim_id=new_id(),
    name="j",
    attempt=1,
    max_attempts=5,
    enqueued_at=NOW,
    options=None,
    log_fields={},
)
VERDICT = Verdict("host:1")


def end_of(value: object, *, needed: bool = True) -> Finish:
    return VERDICT.returned(JOB, value, RetryPolicy(max_attempts=5), NOW, needed=needed)


def fails(*_: object) -> Any:
    raise ZeroDivisionError("no words")


def exits(*_: object) -> Any:
    raise SystemExit(3)


class Model(BaseModel):
    n: int = 1


class Exits(BaseModel):
    n: int = 1

    def model_dump(self, **_: object) -> dict[str, Any]:
        raise SystemExit(3)


@dataclasses.dataclass
class Point:
    x: object = 1


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()
    __str__ = __repr__ = __getitem__ = __len__ = __eq__ = __hash__ = __iter__ = encode = fails


class Table(dict[str, int]):
    items = keys = values = __iter__ = __getitem__ = __len__ = fails  # type: ignore[assignment]


class Array:
    """Looks like one of numpy's."""

    def __array__(self) -> Any:
        return fails()

    tolist = __array_interface__ = fails

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array is ambiguous")


class Dodges:
    __class__ = property(exits)  # type: ignore[assignment]


async def coroutine() -> None: ...


def circle() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


def deep(levels: int) -> list[object]:
    made: list[object] = []
    for _ in range(levels):
        made = [made]
    return made


REFUSALS = {
    "set": lambda: {1},
    "frozenset": lambda: [frozenset()],
    "file": lambda: Path(__file__).open(),  # noqa: SIM115
    "bytes": lambda: b"x",
    "object": object,
    "class": lambda: Model,
    "function": lambda: fails,
    "exception": lambda: ValueError("words"),
    "circle": circle,
    "NaN": lambda: [1.0, float("nan")],
    "infinity": lambda: float("-inf"),
    "array": Array,
    "integer keys": lambda: {1: 2},
    "None as key": lambda: {None: 2},
    "tuple as key": lambda: {(1, 2): 3},
    "large": lambda: "x" * 10_000_000,
    "300 levels": lambda: deep(300),
    "too large a number": lambda: 10**400,
    "NUL": lambda: "a\x00b",
    "surrogate": lambda: {"a": "\ud800"},
    "surrogate in a key": lambda: {"\ud800": 1},
    "text with methods, and no UTF-8": lambda: Text("\ud800"),
    "model that exits": Exits,
    "dataclass with a set": lambda: Point({1}),
    "no class": Dodges,
    "named tuple": lambda: namedtuple("Pair", "a b")(1, 2),  # noqa: PYI024
}
#: What Python's own JSON writes, and so Dramatiq.
TEXT_KEYS = {
    "integer keys": {"1": 2},
    "None as key": {"null": 2},
    "named tuple": [1, 2],
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_result_that_cannot_be_stored_fails_the_job_once_and_says_that_its_work_was_done(name):
    end = end_of(REFUSALS[name]())
    assert (end.verb, end.result, end.delay) == (Verb.FAIL, None, None)
    assert end.error.error_class == "ResultRefused"
    assert end.error.message.startswith("the job's work was done, but its result was refused: ")
    assert end.error.message.endswith("Let the function return what JSON can hold, or nothing")
    assert "result" in end.error.message.partition("refused: ")[2]
    end.error.message.encode()


@pytest.mark.parametrize("name", REFUSALS)
def test_dramatiqs_job_succeeds_with_keys_of_text_or_with_a_marker(name):
    end = end_of(REFUSALS[name](), needed=False)
    assert (end.verb, end.error) == (Verb.COMPLETE, None)
    stored = orjson.loads(end.result)
    assert stored == TEXT_KEYS.get(name, stored)
    assert (name in TEXT_KEYS) or "result" in stored[REFUSED_RESULT]


@pytest.mark.parametrize("needed", [True, False])
def test_a_generator_that_was_returned_has_not_run_so_the_job_fails(needed):
    end = end_of((n for n in ()), needed=needed)
    assert (end.verb, end.error.error_class) == (Verb.FAIL, "Failed")
    assert "its code has not run" in end.error.message


def test_a_coroutine_that_was_returned_is_refused():
    made = coroutine()
    assert "of the type coroutine" in end_of(made).error.message
    made.close()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (2**70, b"1180591620717411303424"),
        (Text("plain"), b'"plain"'),
        (Table(a=1), b'{"a":1}'),
        ([Table(a=2**70)], b'[{"a":1180591620717411303424}]'),
        (Model(), b'{"n":1}'),
        (Point(Decimal("1.5")), b'{"x":"1.5"}'),
        ([Colour.RED, (1, 2), NOW], b'["red",[1,2],"2026-01-01T00:00:00+00:00"]'),
        (deep(99), b"[" * 100 + b"]" * 100),
        (0, b"0"),
        ("", b'""'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_can_hold_is_the_result(value, stored):
    for needed in (True, False):
        end = end_of(value, needed=needed)
        assert (end.verb, end.result, end.error) == (Verb.COMPLETE, stored, None)


@pytest.mark.parametrize(
    ("keys", "stored"),
    [
        ({1: 2, None: 3, False: 4, 1.5: 5, -(2**70): 6}, None),
        ([{"a": [{2: {3: Decimal(1)}}]}], b'[{"a":[{"2":{"3":"1"}}]}]'),
        ({1: {(1, 2): 3}}, "a key is of the type tuple"),
        ({1: {2}}, "of the type set"),
    ],
)
def test_keys_of_dramatiqs_results_become_text_as_in_pythons_json(keys, stored):
    result = end_of(keys, needed=False).result
    if isinstance(stored, str):
        assert stored in orjson.loads(result)[REFUSED_RESULT]
    else:
        assert result == stored or orjson.loads(result) == json.loads(json.dumps(keys))


def test_an_end_that_postgres_refused_keeps_its_verb_unless_the_work_is_done():
    done = VERDICT.unwritable(JOB, end_of({"pages": 12}), "Postgres refused it (DataError)", NOW)
    assert (done.verb, done.result, done.error.error_class) == (Verb.FAIL, None, "ResultRefused")
    assert "the job's work was done" in done.error.message
    policy = RetryPolicy(max_attempts=5)
    for outcome in (ValueError("words"), Retry("5s")):
        end = VERDICT.raised(JOB, outcome, policy, NOW)
        again = VERDICT.unwritable(JOB, end, "Postgres refused it (DataError)", NOW)
        assert (again.verb, again.delay) == (Verb.RETRY, end.delay)
        assert f"the attempt ended with {end.error.error_class}" in again.error.message
