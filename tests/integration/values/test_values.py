"""One table of values, through every door: a job sees the same value, or every door refuses it alike."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from pydantic import BaseModel

from callboard.jobs.client import Client
from callboard.jobs.definitions.arguments import ArgumentBinder, describe
from callboard.jobs.errors import CallboardError
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.new_job import ARGUMENTS_LIMIT
from callboard.jobs.platform import Platform
from callboard.jobs.schedules.manage import schedule_request
from callboard.jobs.webhooks.intake import source_request
from callboard.jobs.webhooks.schemes import SCHEMES
from tests.integration.api_client import SECRET, Api, api_in_process
from tests.integration.cli.conftest import Callboard, logs_as_before
from tests.integration.core.factories import count, execution, run_sql, url_of

__all__ = ["logs_as_before"]

SHARED = "it's a secret to everybody"
#: invalid_parameter_value of the function; of jsonb: invalid text, a NUL character, nesting too deep.
SQL_REFUSALS = {"22023", "22P02", "22P05", "54001"}
LARGEST = 17976931348623157 * 10**292


class Refused(Exception):
    """A door refused the value. `code`: its stable code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Doors(NamedTuple):
    """What the doors need."""

    platform: Platform
    client: Client
    api: Api
    cli: Callboard
    hook: Callable[[bytes], UUID]


#: Decimal refuses such an exponent.
TINY = "-1e-" + "9" * 30


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


#: The text of a JSON value -> the value that the job sees. It is the same at every door that takes JSON, and at
#: the Python doors, which get the value itself.
ACCEPTED: dict[str, Any] = {
    "0": 0, "-0": 0, "9007199254740993": 2**53 + 1, str(2**63): 2**63, str(2**64): 2**64,
    str(-(2**63) - 1): -(2**63) - 1, "1" + "0" * 25: 10**25, str(LARGEST): LARGEST, str(-LARGEST): -LARGEST,
    "[1, 184467440737095516160, 1.5]": [1, 2**64 * 10, 1.5], "1.0": 1.0, "0.1": 0.1,
    "12345678901234567.0": 12345678901234567.0, "1234567890123456789.5": 1234567890123456789.5,
    "5e-324": 5e-324, "-2.5e-7": -2.5e-7, "-0.05": -0.05, "1e-400": 0.0, TINY: -0.0,
    '"\\ud83d\\ude00"': "\N{GRINNING FACE}", '"\\u2028\\\\u0000 1e+16 -0.0"': "\u2028\\u0000 1e+16 -0.0",
    '"6e+12,-0.0,[1e+16"': "6e+12,-0.0,[1e+16", '{"": {"": []}}': {"": {"": []}}, "null": None,
    '{"b": 1, "a": [true, false, null]}': {"b": 1, "a": [True, False, None]},
    json.dumps("x" * 300_000): "x" * 300_000, nested(99): json.loads(nested(99)),
    json.dumps({str(number): number for number in range(5_000)}): {str(number): number for number in range(5_000)},
}  # fmt: skip
#: jsonb holds numbers by their digits, so SQL alone makes integers of these floats, and has no negative zero.
FLOATS_IN_JSONB: dict[str, tuple[float, float | int]] = {
    "1e15": (1e15, 10**15),
    "1e16": (1e16, 10**16), "1e22": (1e22, 10**22), "-0.0": (-0.0, 0.0), "1e300": (1e300, 10**300),
    "1.7976931348623157e308": (1.7976931348623157e308, LARGEST),
    "-1.7976931348623157e308": (-1.7976931348623157e308, -LARGEST),
}  # fmt: skip
#: Texts that every door refuses. A webhook keeps the body.
REFUSED = [
    "NaN", "Infinity", "-Infinity", "[NaN]", "1E400", "-1E400", str(LARGEST + 1), "1" + "0" * 400, "9" * 5_000,
    '"a\\u0000b"', '{"k\\u0000": 1}', '{"a": [["\\u0000"]]}', '"\\ud800"', '{"\\udfff": 1}', '["\\ud83dx"]',
    nested(100), '{"a":' * 100 + "1" + "}" * 100, nested(150), nested(2_000), nested(10_000), "[1,]", "", "{",
    "'a'", "01", "\ufeff1", '"a\nb"', json.dumps("x" * (ARGUMENTS_LIMIT + 1)),
]  # fmt: skip


class Colour(Enum):
    RED = "red"
    HUGE = 2**70


class Account(int): ...


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    y: float


class Address(BaseModel):
    street: str
    number: int = 2**65


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
#: Python's own values -> what the job sees.
PYTHON: list[tuple[Any, Any]] = [
    ((1, 2.0), [1, 2.0]), (Decimal("1.10"), "1.10"), (UUID(int=7), str(UUID(int=7))), (Colour.RED, "red"),
    (Colour.HUGE, 2**70), (Level.HIGH, 3), (datetime(2026, 10, 1, tzinfo=UTC), "2026-10-01T00:00:00+00:00"),
    (Point(2**64, 1e16), {"x": 2**64, "y": 1e16}), (Address(street="Main"), {"street": "Main", "number": 2**65}),
    ([Point(1, -0.0), 2**80], [{"x": 1, "y": -0.0}, 2**80]), ([Account(7), Account(2**70), 1e16], [7, 2**70, 1e16]),
]  # fmt: skip
NOT_JSON: list[Any] = [
    float("nan"), [float("inf")], Point(1, float("nan")), "a\0b", {"k\0": 1}, "\ud800", {"\udfff": 1}, {1: 2},
    {None: 1}, {(1, 2): 3}, {1, 2}, frozenset(), b"x", bytearray(b"x"), object(), ..., 2**1024, 10**5_000,
    -(10**400), CIRCLE, json.loads(nested(100)), [{1: 2**70}], 1j,
]  # fmt: skip


def take_value(value: Any) -> None: ...


def take_webhook(event: str, delivery_id: str, payload: Any) -> None: ...


@pytest.fixture
def doors(
    platform: Platform, database_url: str, redis_url: str, tmp_path, monkeypatch, logs_as_before: None
) -> Iterator[Doors]:
    monkeypatch.chdir(tmp_path)
    cli = Callboard({"database_url": database_url, "redis_url": redis_url, "secret_key": SECRET})
    with api_in_process(platform, max_body=8 * 1024 * 1024) as api:
        types = [
            JobType(kind.__name__, "values", describe(kind).schema, 5, 10, None, "")
            for kind in (take_value, take_webhook)
        ]
        platform.catalogue.publish(types)
        source = {"name": "hub", "scheme": "github", "job": "take_webhook", "secret": SHARED}
        intake = platform.intake(SECRET)
        intake.create(source_request(source))
        intake.close()
        yield Doors(platform, Client.over(platform), api, cli, lambda body: by_webhook(api, body))


def by_python(doors: Doors, value: Any) -> UUID:
    with refusing():
        return doors.client.enqueue("take_value", {"value": value}).id


def by_position(doors: Doors, value: Any) -> UUID:
    with refusing():
        return doors.client.enqueue("take_value", args=[value]).id


def by_batch(doors: Doors, value: Any) -> UUID:
    with refusing():
        return UUID(str(doors.client.enqueue_many("take_value", [{"value": 1}, {"value": value}])[1]))


def by_mixed_batch(doors: Doors, value: Any) -> UUID:
    """A unique key: written by another statement than plain jobs."""
    with refusing():
        return doors.client.enqueue("take_value", {"value": value}, unique_key="k").id


def by_transaction(doors: Doors, value: Any) -> UUID:
    with refusing(), psycopg.connect(url_of(doors.platform).replace("+psycopg", "")) as connection:
        return doors.client.enqueue("take_value", {"value": value}, connection=connection).id


def by_schedule(doors: Doors, value: Any) -> UUID:
    with refusing():
        request = {"name": "nightly", "job": "take_value", "kwargs": {"value": value}, "every": "1m"}
        doors.platform.schedules().create(schedule_request(request))
    return ticked(doors.platform)


@contextmanager
def refusing() -> Iterator[None]:
    try:
        yield
    except CallboardError as error:
        raise Refused(error.code, error.message) from error


def ticked(platform: Platform) -> UUID:
    run_sql(
        platform, "UPDATE callboard.schedules SET next_fire_at = now() - :late", late=timedelta(seconds=1)
    )
    (job_id,) = [tick.job_id for tick in platform.ticker().tick() if tick.job_id is not None]
    return job_id


def by_cli(doors: Doors, text: str) -> UUID:
    outcome = doors.cli("job", "enqueue", "take_value", "--json", "--args", "-", stdin=f'{{"value": {text}}}')
    return UUID(cli_json(outcome)["id"])


def by_cli_schedule(doors: Doors, text: str) -> UUID:
    arguments = ("--job", "take_value", "--every", "1m", "--args", "-")
    cli_json(doors.cli("schedule", "create", "nightly", *arguments, "--json", stdin=f'{{"value": {text}}}'))
    return ticked(doors.platform)


def cli_json(outcome: Any) -> Any:
    if outcome.code != 0:
        assert outcome.code == 2, outcome
        raise Refused("VALIDATION_ERROR", outcome.error)
    return outcome.json


def by_http(doors: Doors, text: str) -> UUID:
    return posted(doors, "/v1/jobs", f'{{"name": "take_value", "kwargs": {{"value": {text}}}}}')["id"]


def by_http_batch(doors: Doors, text: str) -> UUID:
    body = f'{{"jobs": [{{"name": "take_value", "kwargs": {{"value": {text}}}}}]}}'
    return posted(doors, "/v1/jobs/batch", body)["items"][0]["id"]


def posted(doors: Doors, path: str, body: str) -> Any:
    headers = {"Content-Type": "application/json"}
    answer = doors.api.operator("POST", path, content=body.encode("utf-8"), headers=headers)
    if answer.status_code != 201:
        error = answer.json()["error"]
        assert answer.status_code == 400, answer.text
        raise Refused(error["code"], error["message"])
    return json.loads(answer.text)


def by_sql(doors: Doors, text: str) -> UUID:
    kwargs = f'{{"value": {text}}}'
    with psycopg.connect(url_of(doors.platform).replace("+psycopg", "")) as connection:
        try:
            row = connection.execute(
                "SELECT callboard.enqueue('take_value', CAST(%s AS jsonb))", [kwargs]
            ).fetchone()
        except psycopg.Error as error:
            code = "VALIDATION_ERROR" if error.sqlstate in SQL_REFUSALS else str(error.sqlstate)
            raise Refused(code, error.diag.message_primary or "") from error
    assert row is not None
    return UUID(str(row[0]))


def by_webhook(api: Api, body: bytes) -> UUID:
    headers = {
        **SCHEMES["github"].sign(SHARED, body),  # type: ignore[call-arg]
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "d-1",
        "Content-Type": "application/json",
    }
    answer = api.anonymous("POST", "/webhooks/hub", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["job_ids"][0])


PYTHON_DOORS = (by_python, by_position, by_batch, by_mixed_batch, by_transaction, by_schedule)
TEXT_DOORS = (by_cli, by_cli_schedule, by_http, by_http_batch)


def arguments(doors: Doors, job_id: UUID | str, function: Callable[..., None]) -> dict[str, Any]:
    """Claim the job; return its arguments by name, as a worker's job gets them."""
    with execution(doors.platform) as worker:
        (job,) = worker.with_arguments(worker.claim([(str(job_id), 0)]))
    assert job.args is not None
    assert job.kwargs is not None
    args, kwargs = ArgumentBinder(function, coerce=True).bind(job.args, job.kwargs)
    return {**dict(zip(("value",), args, strict=False)), **kwargs}


def seen(doors: Doors, job_id: UUID | str) -> Any:
    """Return the value that the job sees. Who reads the job over HTTP sees the same."""
    value = arguments(doors, job_id, take_value)["value"]
    shown = json.loads(doors.api.viewer.get(f"/v1/jobs/{job_id}").text)
    assert repr((*shown["args"], *shown["kwargs"].values())[0]) == repr(value)
    return value


def same(value: Any, expected: Any) -> bool:
    """Whether both are equal, of equal types: 1 is not 1.0, 0.0 is not -0.0. jsonb does not keep key order."""
    return _ordered(value) == _ordered(expected)


def _ordered(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{_ordered(one)}" for key, one in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_ordered, value)) + "]"
    return repr(value)


@pytest.mark.parametrize("door", [*TEXT_DOORS, by_sql], ids=lambda door: door.__name__)
def test_json_arrives_as_the_same_value(doors, door):
    for text, expected in ACCEPTED.items():
        if (door, text) == (by_sql, TINY):
            continue  # jsonb refuses it: numeric_value_out_of_range.
        found = seen(doors, door(doors, text))
        assert same(found, expected), (text[:60], found if len(text) < 60 else "")
        run_sql(doors.platform, "DELETE FROM callboard.schedules")
    for text, (expected, in_jsonb) in FLOATS_IN_JSONB.items():
        found = seen(doors, door(doors, text))
        assert same(found, in_jsonb if door is by_sql else expected), (text, found)
        run_sql(doors.platform, "DELETE FROM callboard.schedules")


@pytest.mark.parametrize("door", PYTHON_DOORS, ids=lambda door: door.__name__)
def test_pythons_values_arrive_as_the_same_json(doors, door):
    floats = [expected for expected, _ in FLOATS_IN_JSONB.values()]
    cases = [*((one, one) for one in (*ACCEPTED.values(), *floats)), *PYTHON]
    if door is by_schedule:
        # The schedule's arguments are JSON already.
        cases = [(value, expected) for value, expected in cases if value is expected]
    for value, expected in cases:
        found = seen(doors, door(doors, value))
        assert same(found, expected), (str(value)[:60], str(found)[:60])
        run_sql(
            doors.platform, "DELETE FROM callboard.schedules; UPDATE callboard.jobs SET unique_key = NULL"
        )


@pytest.mark.parametrize("door", [*TEXT_DOORS, by_sql], ids=lambda door: door.__name__)
def test_json_that_no_job_can_hold_is_refused_at_every_door(doors, door):
    for text in REFUSED:
        with pytest.raises(Refused) as refusal:
            door(doors, text)
        assert refusal.value.code == "VALIDATION_ERROR", text[:60]
        assert 10 < len(refusal.value.message) < 500
    assert count(doors.platform) == 0


@pytest.mark.parametrize("door", PYTHON_DOORS, ids=lambda door: door.__name__)
def test_python_values_that_no_job_can_hold_are_refused_with_their_place(doors, door):
    for value in NOT_JSON:
        with pytest.raises(Refused) as refusal:
            door(doors, {"deep": [0, value]})
        assert refusal.value.code == "VALIDATION_ERROR"
        assert ".deep[1]" in refusal.value.message or "deeper" in refusal.value.message, refusal.value.message
        assert len(refusal.value.message) < 500
    assert count(doors.platform) == 0


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "a": 1}}]'])
def test_a_repeated_key_is_refused_by_every_door_but_sql_where_the_last_one_counts(doors, text):
    for door in TEXT_DOORS:
        with pytest.raises(Refused, match="repeated in one object"):
            door(doors, text)
    assert same(seen(doors, by_sql(doors, text)), json.loads(text))
    job = doors.hook(text.encode())
    assert arguments(doors, job, take_webhook)["payload"] is None


def test_bytes_that_are_not_utf_8_are_refused(doors):
    answer = doors.api.operator(
        "POST", "/v1/jobs", content=b'{"name": "take_value", "kwargs": {"value": "\xff"}}'
    )
    assert answer.json()["error"]["code"] == "VALIDATION_ERROR"
    assert doors.cli("job", "enqueue", "take_value", "--args", '["\udcff"]').code == 2


@pytest.mark.parametrize("text", [*ACCEPTED, *FLOATS_IN_JSONB], ids=lambda text: text[:20])
def test_a_webhooks_payload_is_the_json_that_was_sent(doors, text):
    expected = ACCEPTED[text] if text in ACCEPTED else FLOATS_IN_JSONB[text][0]
    payload = arguments(doors, doors.hook(text.encode()), take_webhook)["payload"]
    assert same(payload, expected)
    (delivery,) = doors.platform.deliveries.page().items
    # Only digits that a double does not hold need the body.
    rounded = {"1e-400", TINY, "1234567890123456789.5", "12345678901234567.0"}
    assert (delivery.kept_bytes is not None) == (text in rounded)


@pytest.mark.parametrize(
    "body",
    [
        *(text.encode() for text in REFUSED),
        b"\xff\xfe",
        nested(300).encode(),
        nested(993).encode(),
        b"payload=%7B%7D",
        bytes(range(256)),
        b"<xml/>",
    ],
    ids=lambda body: repr(body[:16]),
)
def test_a_webhooks_body_that_no_job_can_hold_is_kept_for_the_job(doors, body):
    job_id = doors.hook(body)
    given = arguments(doors, job_id, take_webhook)
    assert given == {"event": "push", "delivery_id": "d-1", "payload": None}
    job = doors.platform.jobs.get(job_id)
    assert doors.platform.deliveries.body(UUID(job.source_id)) == body
    assert doors.api.viewer.get(f"/v1/webhook-deliveries/{job.source_id}").json()["kept_bytes"] == len(body)


def test_a_job_with_a_huge_integer_can_be_listed_and_printed(doors):
    job_id = by_cli(doors, str(2**70))
    assert str(2**70) in doors.cli("job", "show", job_id, "--json").out
    assert str(2**70) in doors.cli("job", "show", job_id).out
    assert str(2**70) in doors.api.viewer.get("/v1/jobs").text
