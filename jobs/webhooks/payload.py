"""The body of a webhook: which media types are accepted, and the JSON in it."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson

from callboard.jobs.errors import InvalidInput, UnsupportedMediaType
from callboard.jobs.webhooks.schemes.scheme import is_repeated

_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_FIELD: Final = b"payload"


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


def read_payload(form: BodyForm, body: bytes) -> Any:
    """Return the JSON value in a body. Raises InvalidInput when it has none."""
    return _json(body, "the body") if form is BodyForm.JSON else _json(_form_field(body), "the field payload")


def _form_field(body: bytes) -> bytes:
    """Return the value of the form's only field, which must be `payload`."""
    fields = [field for field in body.split(b"&", 2) if field]
    name, equals, value = fields[0].partition(b"=") if len(fields) == 1 else (b"", b"", b"")
    if not equals or unquote_to_bytes(name) != _FIELD:
        raise InvalidInput(
            "the form must have exactly one field, payload, whose value is JSON",
            fields={"payload": "expected exactly once, without other fields"},
        )
    return unquote_to_bytes(value.replace(b"+", b" "))


def _json(text: bytes, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{where} is not JSON: {error}", fields={"body": "JSON is expected"}) from None


def _refused(header: str, value: str, advice: str) -> UnsupportedMediaType:
    if is_repeated(value):
        return UnsupportedMediaType(
            f"the {header} header is given more than once", fields={header: "given twice"}
        )
    return UnsupportedMediaType(
        f"the {header} {value[:60]!r} is not accepted: {advice}", fields={header: advice}
    )
