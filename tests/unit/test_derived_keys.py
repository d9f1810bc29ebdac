"""Keys that are derived from arguments: equal calls have equal keys, different calls have different keys."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard import Unique, job
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.derived_keys import derived_key, unique_key


def build_report(account_id: int, month: str = "2026-10", *, draft: bool = False) -> None: ...


SCHEMA = describe(build_report).schema
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([7], {}),
        ([], {"account_id": 7}),
        ([7, "2026-10"], {}),
        ([7], {"draft": False}),
        ([], {"draft": False, "month": "2026-10", "account_id": 7}),
    ],
)
def test_one_call_has_one_key_however_it_is_written(args, kwargs):
    assert derived_key(SCHEMA, args, kwargs, []) == 'account_id=7,draft=false,month="2026-10"'
    assert derived_key(SCHEMA, args, kwargs, ["month", "account_id"]) == 'month="2026-10",account_id=7'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (7, "7"), ("7", '"7"'), (None, "null"), (True, "true"), (1, "1"), (7.0, "7"), (-0.0, "0"),
        ("a,b=c", '"a,b=c"'), ('"', '"\\""'), ("ä", '"ä"'), ("\n\x01", '"\\n\\u0001"'),
    ],
)  # fmt: skip
def test_values_of_different_types_read_differently(value, written):
    assert derived_key({}, [], {"x": value}, ["x"]) == f"x={written}"


def test_a_missing_argument_is_null():
    assert derived_key(SCHEMA, [], {}, ["account_id"]) == "account_id=null"


@pytest.mark.parametrize("value", [1.5, 1e300, [1, 2], {"a": 1, "b": [2]}])
def test_what_is_no_plain_value_is_a_digest(value):
    key = derived_key({}, [], {"x": value}, ["x"])
    assert key.startswith("x=sha256:")
    assert len(key) == len("x=sha256:") + 40


def test_the_order_of_an_objects_keys_does_not_count():
    one, other = {"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}
    assert derived_key({}, [], {"x": one}, []) == derived_key({}, [], {"x": other}, [])


def test_more_values_than_there_are_names_are_told_by_their_position():
    assert derived_key({"x-parameters": ["a"]}, [1, 2, 3], {}, []) == "a=1,args[1]=2,args[2]=3"


@given(st.dictionaries(st.sampled_from("abc"), SCALARS), st.dictionaries(st.sampled_from("abc"), SCALARS))
def test_two_calls_have_the_same_key_exactly_when_they_are_the_same(one, other):
    same = {name: (type(value), value) for name, value in one.items()} == {
        name: (type(value), value) for name, value in other.items()
    }
    assert (derived_key({}, [], one, []) == derived_key({}, [], other, [])) == same


@given(st.text(min_size=1, max_size=200), st.text(max_size=400))
def test_no_key_is_longer_than_a_unique_key_may_be(name, value):
    key = derived_key({}, [], {"x": value}, [])
    assert len(key) <= 150
    assert len(unique_key(name, key)) <= 200


def test_two_long_calls_that_differ_at_the_end_differ():
    keys = {derived_key({}, [], {"x": "a" * 1000 + end}, []) for end in "bc"}
    assert len(keys) == 2
    assert len({unique_key("n" * 199, f"{end}" * 100) for end in "bc"}) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"by": "a"}, {"on_conflict": "explode"}, {"period": "1 fortnight"}, {"period": timedelta(-1)}],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong):
    assert Unique(by=("a",), period="1h").seconds == 3600.0
    with pytest.raises(InvalidInput):
        Unique(**wrong)


@pytest.mark.parametrize("names", [{"unique": Unique(by=("acount_id",))}, {"limit_by": "acount_id"}])
def test_a_name_that_is_no_argument_is_refused_for_all_calls_would_share_a_key(names):
    actor = job(name=f"misspelt_{next(iter(names))}", **names)(build_report)
    with pytest.raises(InvalidInput, match="has no argument 'acount_id'"):
        define(actor)


def test_a_definition_publishes_its_rule():
    actor = job(name="well_spelt", unique=Unique(by=("month",), period="1h"), limit_by="account_id")(
        build_report
    )
    kind = define(actor).type
    assert kind.unique is not None
    assert (kind.unique.by, kind.unique.period, kind.unique.on_conflict) == (("month",), 3600.0, "existing")
    assert kind.limit_by == ("account_id",)
