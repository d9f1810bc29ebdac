"""The JSON Schema validator. Import it where a schema is compiled, because it takes 5 MiB of a process."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from ipaddress import IPv4Address, IPv6Address
from re import Pattern
from typing import Any, Final
from uuid import UUID

import jsonschema_rs
from pydantic import AnyUrl, TypeAdapter, ValidationError

from callboard.jobs.definitions.schema_errors import MASK


def compile_schema(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """Compile a JSON Schema to a validator. Raises ValueError when the schema is not valid.

    The validator does no network requests, has no values in its messages and checks formats as pydantic does.
    """
    return jsonschema_rs.Draft202012Validator(
        schema, formats=_FORMATS, validate_formats=True, mask=MASK, offline=True
    )


def _format(kind: Any) -> Callable[[str], bool]:
    validator = TypeAdapter(kind).validator

    def accepts(text: str) -> bool:
        try:
            validator.validate_python(text)
        except ValidationError:
            return False
        return True

    return accepts


#: The checks of text formats. An enqueue accepts a text for a date exactly when the worker can convert it.
_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date-time": _format(datetime),
    "date": _format(date),
    "time": _format(time),
    "duration": _format(timedelta),
    "uuid": _format(UUID),
    "uri": _format(AnyUrl),
    "ipv4": _format(IPv4Address),
    "ipv6": _format(IPv6Address),
    "regex": _format(Pattern[str]),
}
