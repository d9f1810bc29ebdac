"""The payload of a webhook: what a job gets, and when the raw body is kept."""

import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.webhooks.payload import AsideResult, BodyForm, read_payload

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def read(body: bytes):
    return read_payload(BodyForm.JSON, body)


@settings(deadline=None)
@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_json_in_any_notation_is_the_payload(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    payload = read(body)
    assert payload.aside is None
    assert repr(payload.value) == repr(value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}', b'{"a":1,"a":1}', b'{"a": 1, "a": "\\u003a"}', b'{"a": 1, "a": "\\u003A"}',
        b'{"\\u0061": 1, "a": ":"}', b'[{"b": [{"x": 1, "x": {}}]}]',
    ],
)  # fmt: skip
def test_a_repeated_key_leaves_the_body_unreadable(body):
    payload = read(body)
    assert payload.is_unreadable
    assert "repeated" in payload.aside.reason


@pytest.mark.parametrize(
    "digits",
    [
        "0.1234567890123456789", "1234567890123456789.5", "1e-400", "-1E-400", "0.00000000000000000012345678901234567891",
        "123456789012345678e-1", "12345678901234567.0", "9007199254740993.0", "9007199254740993e0", "3e-324",
        "923456789012345.67", "-1e-325", "1e-" + "9" * 30, "-0.1E-" + "9" * 5_000, "1.2" + "0" * 400 + "1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ["[{}]", '{{"n" : {}}}'])
def test_a_number_that_a_double_does_not_hold_is_rounded_and_its_body_kept(text, digits):
    payload = read(text.format(digits).encode())
    assert payload.aside is not None
    assert payload.aside.result is AsideResult.ROUNDED
    [number] = payload.value.values() if isinstance(payload.value, dict) else payload.value
    assert number == float(digits)


@pytest.mark.parametrize(
    "digits",
    [
        "0.30000000000000004",
        "1.10",
        "-0.0",
        "123456789012345678901234567890",
        "-9223372036854775809",
        "0.10000000000000001",
        "2.5000000000000000000000",
        "52.12345678901234",
        "5e-324",
        "0e-" + "9" * 30,
        "0.1000000000000000055511151231257827021181583404541015625",
    ],
)
def test_other_numbers_need_no_body(digits):
    payload = read(f'{{"n" : {digits}}}'.encode())
    assert payload.aside is None
    assert repr(payload.value["n"]) == repr(json.loads(digits))


# Each reader has another limit, and some depend on the stack.
@pytest.mark.parametrize("levels", [*range(95, 105), *range(250, 260), 500, *range(900, 1_030), 3_000])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a" : ', "}]")])
def test_a_body_of_any_depth_is_read_or_unreadable(start, end, levels):
    body = (start * levels + "1" + end * levels).encode()
    payload = read(body)
    assert payload.is_unreadable or json.dumps(payload.value).replace(" ", "").encode() == body.replace(
        b" ", b""
    )


def test_a_form_is_read_by_the_same_rules():
    for text, unreadable in (('{"a": 1}', False), ('{"a": 1, "a": 2}', True), ("NaN", True)):
        body = f"payload={quote_plus(text)}".encode()
        assert read_payload(BodyForm.FORM, body).is_unreadable is unreadable
