"""The body of a webhook: which media types are accepted, and the JSON in it."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from callboard.jobs.errors import UnsupportedMediaType
from callboard.jobs.model.basics.strict_json import NotJson, parse
from callboard.jobs.webhooks.schemes.scheme import is_repeated

_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_FIELD: Final = b"payload"
#: Makes every digit and point a 0, and E an e. A number that a double or 64 bits do not hold has one of the
#: runs, or is a long fraction.
_DIGITS: Final = bytes.maketrans(b"123456789.E", b"0000000000e")
_SPACES: Final = b" \t\r\n"
_LONG_RUNS: Final = (b"0" * 19, b"0" * 16 + b"e", b"e-000")
#: A double holds every number of 15 digits.
_LONG: Final = 17
_MAYBE_LONG: Final = b"0" * _LONG
_LONG_FRACTION: Final = re.compile(rb"(?<![0-9.])(?=[0-9.]{%d})[0-9]+\.[0-9]+" % _LONG)
#: The most digits that senders write for a double.
_DOUBLE_DIGITS: Final = 17


class BodyForm(Enum):
    """How a body carries its JSON."""

    JSON = _JSON
    #: The JSON is the field `payload` of a form.
    FORM = _FORM


def body_form(headers: Mapping[str, str]) -> BodyForm:
    """Return the form that a request declares for its body. Without a content type, that is JSON.

    Raises UnsupportedMediaType, with the header's name, for a compressed body and for any other media type.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise _refused("content-encoding", encoding, "send the body without compression")
    declared = headers.get("content-type", "")
    if declared == _JSON:
        return BodyForm.JSON
    if is_repeated(declared):
        raise _refused("content-type", declared, "")
    # The charset is ignored: JSON is UTF-8, and the bytes are checked.
    media_type = declared.partition(";")[0].strip().lower()
    if media_type in {"", _JSON} or (media_type.startswith("application/") and media_type.endswith("+json")):
        return BodyForm.JSON
    if media_type == _FORM:
        return BodyForm.FORM
    raise _refused("content-type", media_type, f"set the sender's content type to {_JSON}")


class AsideResult(StrEnum):
    """Why the raw body of a delivery is kept."""

    #: The job's arguments cannot hold the value: `payload` is null.
    UNREADABLE = "unreadable"
    #: A number has more digits than a double. `payload` has the nearest double.
    ROUNDED = "rounded"


class Aside(NamedTuple):
    """The body is kept with its delivery. `reason` is a sentence for the log."""

    result: AsideResult
    reason: str


class Payload(NamedTuple):
    """The JSON value in a body. `aside` is set when the value is not all that the sender wrote."""

    value: Any
    aside: Aside | None = None

    @property
    def is_unreadable(self) -> bool:
        return self.aside is not None and self.aside.result is AsideResult.UNREADABLE

    @classmethod
    def unreadable(cls, reason: str) -> "Payload":
        return cls(None, Aside(AsideResult.UNREADABLE, reason))


def read_payload(form: BodyForm, body: bytes) -> Payload:
    """Return the JSON value in a body. It never fails: a body without JSON is unreadable."""
    if form is BodyForm.JSON:
        return _read(body, "the body")
    field = _form_field(body)
    if field is None:
        return Payload.unreadable("the form has not exactly one field, payload, whose value is JSON")
    return _read(field, "the field payload")


def _form_field(body: bytes) -> bytes | None:
    """Return the value of the form's only field, which must be `payload`."""
    fields = [field for field in body.split(b"&", 2) if field]
    name, equals, value = fields[0].partition(b"=") if len(fields) == 1 else (b"", b"", b"")
    if not equals or unquote_to_bytes(name) != _FIELD:
        return None
    return unquote_to_bytes(value.replace(b"+", b" "))


def _read(text: bytes, where: str) -> Payload:
    try:
        value = orjson.loads(text)
        if _holds_all(orjson.dumps(value), text):
            return Payload(value)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        # The strict parser names the reason, and reads longer integers. orjson writes fewer levels than it
        # reads.
        pass
    try:
        value = parse(text)
        digits = _first_rounded(text)
    except NotJson as error:
        return Payload.unreadable(f"{where} cannot be read as JSON: {error.reason}")
    except RecursionError:
        return Payload.unreadable(f"{where} cannot be read as JSON: nested too deeply")
    if digits is None:
        return Payload(value)
    return Payload(value, Aside(AsideResult.ROUNDED, f"the number {digits[:40]} is rounded to a double"))


def _holds_all(written: bytes, text: bytes) -> bool:
    """Whether a value that was read from a text surely has all of it: every key, and every digit.

    written: the value as compact JSON. Texts of most senders pass; a no means that the strict parser decides,
    which takes thirty times as long.
    """
    # Both lose the same spaces within strings, so nothing else can differ.
    if written == text or written.translate(None, _SPACES) == text.translate(None, _SPACES):
        return True
    # A repeated key is lost together with its colon. A colon in a string is in both, unless it is escaped.
    if written.count(b":") != text.count(b":") or b"\\u003a" in text or b"\\u003A" in text:
        return False
    digits = text.translate(_DIGITS)
    if any(run in digits for run in _LONG_RUNS):
        return False
    return _MAYBE_LONG not in digits or all(
        repr(float(one)).encode() == one for one in _LONG_FRACTION.findall(text)
    )


def _first_rounded(text: bytes) -> str | None:
    """Return the first number that a double does not hold; integers are exact."""
    found: list[str] = []

    def check(digits: str) -> float:
        number = float(digits)
        if not found and _is_rounded(digits, number):
            found.append(digits)
        return number

    json.loads(text, parse_float=check)
    return found[0] if found else None


def _is_rounded(digits: str, number: float) -> bool:
    if repr(number) == digits:
        return False
    if number == 0:
        # Decimal refuses very long exponents.
        return digits.lower().partition("e")[0].strip("-0.") != ""
    written = Decimal(digits)
    length = len(written.as_tuple().digits)
    if length <= _DOUBLE_DIGITS:
        # A sender may write more digits than needed: 0.10000000000000001 is the double 0.1.
        return written != Decimal(f"{number:.{length - 1}e}")
    return written != Decimal(repr(number)) and written != Decimal(number)


def _refused(header: str, value: str, advice: str) -> UnsupportedMediaType:
    if is_repeated(value):
        return UnsupportedMediaType(
            f"the {header} header is given more than once", fields={header: "given twice"}
        )
    return UnsupportedMediaType(
        f"the {header} {value[:60]!r} is not accepted: {advice}", fields={header: advice}
    )
