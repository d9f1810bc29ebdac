"""An annotation that cannot be used costs its own parameter the check, and is named with the reason."""

import dramatiq
import pytest
from pydantic import BaseModel

from callboard.jobs.definitions.signatures import describe
from callboard.jobs.dramatiq.actor import job
from callboard.jobs.errors import InvalidArguments
from callboard.workers.execute.worker_broker import WorkerBroker


class Plain:
    """A class that pydantic knows nothing of."""


class Broken:
    @classmethod
    def __get_pydantic_core_schema__(cls, _source, _handler):
        raise SystemExit(3)


class NoSchema:
    @classmethod
    def __get_pydantic_core_schema__(cls, _source, handler):
        return handler(int)

    @classmethod
    def __get_pydantic_json_schema__(cls, _core, _handler):
        raise RuntimeError("not\nhere")


class Unspeakable(BaseException):
    def __str__(self):
        raise OSError


def fails():
    raise Unspeakable


class Later(BaseModel):
    other: "Nowhere"  # noqa: F821


class Tree(BaseModel):
    children: "list[Tree]" = []


CASES = {
    "missing": ("Missing", "NameError: name 'Missing' is not defined"),
    "inside": ("list[Missing]", "NameError: name 'Missing' is not defined"),
    "divides": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exits": ("__import__('sys').exit(4)", "SystemExit: 4"),
    "unspeakable": ("fails()", "Unspeakable"),
    "syntax": ("not a type", "SyntaxError: "),
    "plain": (Plain, "PydanticSchemaGenerationError: Unable to generate pydantic-core schema"),
    "broken": (Broken, "SystemExit: 3"),
    "no schema": (NoSchema, "no JSON Schema, so only the worker checks it: RuntimeError: not here"),
    "later": (Later, "PydanticU"),
}


@pytest.fixture
def broker(monkeypatch):
    made = WorkerBroker(lambda: pytest.fail("nothing connects here"), None, middleware=[])
    monkeypatch.setattr(dramatiq.broker, "global_broker", made)
    return made


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("declare", [job, dramatiq.actor])
def test_an_annotation_that_cannot_be_used_is_named_once_and_costs_only_itself(
    broker, captured, case, declare
):
    annotation, reason = CASES[case]

    def report(odd, count: int) -> None: ...

    report.__annotations__["odd"] = annotation
    declare(report)
    definition = broker.definitions()["report"]
    assert definition.type.schema["properties"] == {"odd": {}, "count": {"type": "integer"}}
    (warning,) = [event for event in captured if event["event"] == "job.parameter_unchecked"]
    assert warning["reason"].startswith(reason)
    assert (warning["job"], warning["parameter"], warning["module"]) == ("report", "odd", __name__)
    assert warning["log_level"] == "warning"
    if declare is job:
        with pytest.raises(InvalidArguments, match=r"kwargs\.count"):
            definition.binder.bind((), {"odd": 7, "count": "many"})
    assert definition.binder.bind((), {"odd": 7, "count": 3}) == ((), {"odd": 7, "count": 3})


def test_what_can_be_read_is_checked():
    def report(tree: "Tree", maybe: "int | None" = None, anything: object = None): ...

    assert describe(report).unchecked == {}


@pytest.fixture
def captured():
    from structlog.testing import capture_logs

    with capture_logs() as events:
        yield events
