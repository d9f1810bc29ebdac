"""Format log lines for people.

A line for people has the time, the event and the fields. It names the level only for warnings and errors.
On a terminal long lines are folded.
"""

import shutil
from typing import Final

import orjson
from structlog.typing import EventDict, WrappedLogger

_FIRST_KEYS: Final = ("timestamp", "level", "event", "logger")
_RESET: Final = "\033[0m"
_DIM: Final = "\033[2m"
_STYLES: Final = {
    "debug": _DIM,
    "info": "\033[1m",
    "warning": "\033[1;33m",
    "error": "\033[1;31m",
    "critical": "\033[1;31m",
}
_EVENT_WIDTH: Final = 24
_INDENT: Final = 10
_MIN_WIDTH: Final = 60


class HumanLines:
    """Renders an event as one line. On a terminal, fields that do not fit go to the next line, indented."""

    def __init__(self, *, terminal: bool, colour: bool) -> None:
        self._width = max(_MIN_WIDTH, shutil.get_terminal_size((80, 24)).columns) if terminal else 0
        self._colour = colour

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        time = str(event.pop("timestamp", ""))
        level = str(event.pop("level", "info"))
        name = _visible(str(event.pop("event", "")))
        trace = event.pop("exception", None)
        event.pop("logger", None)
        if level in {"warning", "error", "critical"}:
            name = f"{level}: {name}"
        fields = [(str(key), _quoted(value)) for key, value in event.items()]
        padded = f"{name:<{_EVENT_WIDTH}}" if fields else name
        line = f"{self._paint(_DIM, time)}  {self._paint(_STYLES.get(level, ''), padded)}"
        text = line + self._fold(len(time) + 2 + len(padded), fields)
        if trace is None:
            return text
        return text + "".join(f"\n{' ' * _INDENT}{_visible(row)}" for row in str(trace).splitlines())

    def _fold(self, used: int, fields: list[tuple[str, str]]) -> str:
        text = ""
        for key, value in fields:
            length = 1 + len(key) + 1 + len(value)
            if self._width and used + length > self._width and used > _INDENT:
                text += "\n" + " " * (_INDENT - 1)
                used = _INDENT - 1
            text += f" {self._paint(_DIM, key + '=')}{value}"
            used += length
        return text

    def _paint(self, style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if self._colour and style and text else text


def _quoted(value: object) -> str:
    """Return a value on one line, in quotes if it is empty or has spaces. A list of texts is their list."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        value = ", ".join(value)
    text = _visible(str(value))
    return f'"{text}"' if not text or " " in text else text


def _visible(text: str) -> str:
    """Return the text with control characters escaped: it cannot control a terminal or fake a second line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def json_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Return an event as a line of JSON."""
    ordered = {key: event.pop(key) for key in _FIRST_KEYS if key in event}
    ordered.update(event)
    try:
        return orjson.dumps(ordered).decode()
    except orjson.JSONEncodeError:
        # a lone surrogate, as in a file name that cannot be decoded, is not valid in JSON
        safe = {
            key: str(value).encode("utf-8", "backslashreplace").decode() for key, value in ordered.items()
        }
        return orjson.dumps(safe).decode()
