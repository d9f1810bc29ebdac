"""The arguments of a job: described, checked, converted for the call, encoded."""

import dataclasses
import enum
import inspect
import typing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from callboard.jobs.definitions.arguments import ArgumentBinder, describe
from callboard.jobs.definitions.catalogue import ArgumentChecker
from callboard.jobs.errors import InvalidArguments

if typing.TYPE_CHECKING:
    from nowhere import Missing

ID = UUID("0190f1d2-0000-7000-8000-000000000000")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    street: str
    since: datetime | None = None


class Node(BaseModel):
    name: str
    below: "list[Node]" = []


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Cat(BaseModel):
    kind: typing.Literal["cat"]


class Dog(BaseModel):
    kind: typing.Literal["dog"]


class Handle:
    """Something pydantic knows nothing of."""


def report(account_id: int, month: str, *, pages: int = 12): ...


def nothing(): ...


def bare(a, b=2, *args, c, **kwargs): ...


def first_only(a: int, /, b: int = 0): ...


def swallows(a: int, /, **rest: int): ...


def many(*numbers: int): ...


def texts(at: "datetime", ids: "list[UUID]", unknown: "Missing" = None): ...


def rich(
    at: datetime,
    account: UUID | None = None,
    home: Address | None = None,
    point: Point | None = None,
    colour: Colour = Colour.RED,
    price: Decimal = Decimal(1),
    wait: timedelta = timedelta(0),
    day: date | None = None,
    tags: set[str] = frozenset(),
    pet: typing.Annotated[Cat | Dog, Field(discriminator="kind")] | None = None,
    tree: Node | None = None,
    size: typing.Annotated[int, Field(ge=1, le=9)] = 1,
): ...


def check(function: typing.Callable[..., object], *args: object, **kwargs: object) -> None:
    ArgumentChecker(describe(function).schema).check(list(args), kwargs)


def bind(function: typing.Callable[..., object], *args: object, **kwargs: object):
    return ArgumentBinder(function, coerce=True).bind(list(args), kwargs)


def fields_of(call: typing.Callable[..., object], *args: object, **kwargs: object) -> dict[str, str]:
    with pytest.raises(InvalidArguments) as caught:
        call(*args, **kwargs)
    first, reason = next(iter(caught.value.fields.items()))
    assert caught.value.message.startswith(f"{first}: {reason}")
    assert "\n" not in caught.value.message
    return caught.value.fields


CALLS = [
    (report, (7, "2026-10"), {}),
    (report, (7,), {"month": "2026-10", "pages": 3}),
    (nothing, (), {}),
    (bare, (1,), {"c": None}),
    (bare, (1, [2], {"x": 3}, 4), {"c": 5, "d": 6}),
    (first_only, (1,), {"b": 2}),
    (swallows, (1,), {"a": 2, "b": 3}),
    (many, (), {}),
    (many, (1, 2, 3), {}),
    (texts, ("2026-10-01T10:00:00", [str(ID)]), {}),
]


class TestBothSides:
    """What the door and the worker agree on."""

    @pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
    def test_a_call_that_fits_passes(self, function, args, kwargs):
        check(function, *args) if not kwargs else ArgumentChecker(describe(function).schema).check(
            args, kwargs
        )
        for coerce in (True, False):
            found = ArgumentBinder(function, coerce=coerce).bind(args, kwargs)
            assert isinstance(found[0], tuple)
            inspect.signature(function).bind(*found[0], **found[1])

    @pytest.mark.parametrize("side", [check, bind])
    @pytest.mark.parametrize(
        ("function", "args", "kwargs", "fields"),
        [
            (report, (), {}, {"kwargs.account_id": "missing", "kwargs.month": "missing"}),
            (report, (7,), {"months": "x"}, {"kwargs.months": "no such argument", "kwargs.month": "missing"}),
            (report, (7, "m"), {"month": "x"}, {"kwargs.month": "given twice, by position and by name"}),
            (report, (7, "m", 3), {}, {"args[2]": "one too many: 2 accepted by position, 3 given"}),
            (nothing, (1,), {}, {"args[0]": "one too many: 0 accepted by position, 1 given"}),
            (first_only, (), {"a": 1}, {"kwargs.a": "accepted by position only", "args[0]": "missing"}),
            (swallows, (), {"a": 1}, {"args[0]": "missing"}),
            (bare, (1,), {}, {"kwargs.c": "missing"}),
        ],
    )
    def test_names_that_do_not_fit_are_named(self, side, function, args, kwargs, fields):
        def call():
            if side is check:
                ArgumentChecker(describe(function).schema).check(args, kwargs)
            else:
                ArgumentBinder(function, coerce=False).bind(args, kwargs)

        assert fields_of(call) == fields

    @pytest.mark.parametrize("side", [check, bind])
    @pytest.mark.parametrize(
        ("kwargs", "field", "reason"),
        [
            ({"at": "junk"}, "kwargs.at", "must be a"),
            ({"at": None}, "kwargs.at", "must be"),
            ({"account": "junk"}, "kwargs.account", "UUID"),
            ({"home": {}}, "kwargs.home.street", "missing"),
            ({"home": {"street": 3}}, "kwargs.home.street", "must be"),
            ({"home": {"street": "x", "zip": 1}}, "kwargs.home.zip", ""),
            ({"home": 5}, "kwargs.home", "must be"),
            ({"point": {"y": 1}}, "kwargs.point.x", "missing"),
            ({"colour": "green"}, "kwargs.colour", "red"),
            ({"tags": "x"}, "kwargs.tags", "must be"),
            ({"size": 0}, "kwargs.size", "1"),
            ({"wait": "a while"}, "kwargs.wait", ""),
            ({"day": "2026-02-30"}, "kwargs.day", ""),
            (
                {"tree": {"name": "a", "below": [{"name": "b"}, {"name": 3}]}},
                "kwargs.tree.below[1].name",
                "must be",
            ),
        ],
    )
    def test_a_value_that_does_not_fit_is_named(self, side, kwargs, field, reason):
        fields = fields_of(side, rich, **{"at": "2026-10-01T10:00:00Z"} | kwargs)
        assert list(fields) == [field]
        assert reason.lower() in fields[field].lower()

    @pytest.mark.parametrize("side", [check, bind])
    def test_a_value_given_by_position_is_named_by_its_position(self, side):
        fields = fields_of(side, report, "seven", month=3)
        assert list(fields) == ["args[0]", "kwargs.month"]
        assert fields["args[0]"].endswith("got 'seven'")
        assert fields["kwargs.month"].endswith("string, got 3")

    @pytest.mark.parametrize("side", [check, bind])
    def test_every_extra_name_is_checked_against_the_annotation_of_kwargs(self, side):
        assert list(fields_of(side, swallows, 1, b="x")) == ["kwargs.b"]

    @settings(deadline=None)
    @given(data=st.data())
    def test_names_are_bound_as_python_binds_them(self, data):
        function = data.draw(st.sampled_from([report, nothing, bare, first_only, swallows, many]))
        args = data.draw(st.lists(st.just(1), max_size=4))
        names = ["a", "b", "c", "account_id", "month", "pages", "numbers", "rest", "kwargs", "args"]
        kwargs = dict.fromkeys(data.draw(st.sets(st.sampled_from(names), max_size=4)), 1)
        try:
            # the call itself, because the `bind` of inspect in Python 3.13.0 accepts too much
            function(*args, **kwargs)
        except TypeError:
            expected = False
        else:
            expected = True
        schema = describe(function).schema
        schema["properties"] = {name: {} for name in schema["properties"]}
        sides = [ArgumentChecker(schema).check, ArgumentBinder(function, coerce=False).bind]
        for side in sides:
            try:
                side(args, kwargs)
            except InvalidArguments:
                assert not expected
            else:
                assert expected


class TestBinder:
    def test_values_become_what_the_annotations_say(self):
        args, kwargs = bind(
            rich,
            "2026-10-01T10:00:00Z",
            account=str(ID),
            home={"street": "Main", "since": "2020-01-01T00:00:00Z"},
            point={"x": 1},
            colour="blue",
            price="1.10",
            wait="PT30S",
            day="2026-10-01",
            tags=["a", "b"],
            pet={"kind": "dog"},
            tree={"name": "a", "below": [{"name": "b"}]},
        )
        assert args == (datetime(2026, 10, 1, 10, tzinfo=UTC),)
        assert kwargs == {
            "account": ID,
            "home": Address(street="Main", since=datetime(2020, 1, 1, tzinfo=UTC)),
            "point": Point(1, 0),
            "colour": Colour.BLUE,
            "price": Decimal("1.10"),
            "wait": timedelta(seconds=30),
            "day": date(2026, 10, 1),
            "tags": {"a", "b"},
            "pet": Dog(kind="dog"),
            "tree": Node(name="a", below=[Node(name="b")]),
        }

    def test_without_coercion_values_stay_as_json_made_them(self):
        binder = ArgumentBinder(rich, coerce=False)
        assert binder.bind(["junk"], {"size": "x"}) == (("junk",), {"size": "x"})

    def test_star_args_are_converted_each(self):
        def function(*at: date, **more: date): ...

        assert bind(function, "2026-10-01", "2026-10-02", x="2026-10-03") == (
            (date(2026, 10, 1), date(2026, 10, 2)), {"x": date(2026, 10, 3)}
        )  # fmt: skip
        assert list(fields_of(bind, function, "2026-10-01", "x")) == ["args[1]"]

    def test_what_was_given_is_not_altered(self):
        args, kwargs = ["2026-10-01T10:00:00Z"], {"colour": "red"}
        ArgumentBinder(rich, coerce=True).bind(args, kwargs)
        assert (args, kwargs) == (["2026-10-01T10:00:00Z"], {"colour": "red"})

    def test_annotations_that_are_texts_are_read(self):
        expected = datetime(2026, 10, 1)  # noqa: DTZ001
        assert bind(texts, "2026-10-01", [str(ID)], [1]) == ((expected, [ID], [1]), {})

    def test_a_type_that_pydantic_does_not_know_is_passed_raw(self):
        def function(handle: Handle): ...

        assert bind(function, {"a": 1}) == (({"a": 1},), {})

    def test_what_is_not_json_is_refused(self):
        def function(points: list[Point]): ...

        assert fields_of(bind, function, [object()]) == {"args[0]": "is not JSON"}
