"""The logging handler that stores what jobs log: it adds each record of a running job to the job's lines."""

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

from callboard.config.log_capture import UnlockedHandler
from callboard.config.logging import redact
from callboard.config.redaction import mask_text
from callboard.jobs.attempts.context import RunningJob, running_job
from callboard.jobs.attempts.log_lines import LONGEST_LEVEL, LONGEST_LINE, LONGEST_LOGGER, LogLines
from callboard.jobs.model.basics.json_values import storable

#: Of a longer text only the beginning and the end are searched for secrets and stored. Characters.
_LONGEST_READ: Final = 64_000
#: The attributes that every log record has. All others come from `extra=`.
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "_logger", "_name"}
#: The keys of a structlog event that a stored line has columns for.
_COLUMNS: Final = frozenset({"event", "level", "logger", "timestamp", "exc_info", "stack_info"})


class JobLogHandler(UnlockedHandler):
    """Adds what is logged while a job runs, by whatever logger, to the job's lines.

    Other records cost one lookup.

    register: is called with lines that have something to write.
    """

    def __init__(self, level: int, register: Callable[[LogLines], None]) -> None:
        super().__init__(level)
        self._register = register

    def emit(self, record: logging.LogRecord) -> None:
        running = running_job()
        if running is None:
            return
        lines = running.lines or self._lines(running)
        try:
            text = _text(record, running)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a job's values may raise anything
            text = f"<a line that cannot be shown: {type(error).__name__}>"
        lines.add(
            record.created,
            storable(str(record.levelname).lower(), LONGEST_LEVEL),
            storable(str(record.name), LONGEST_LOGGER),
            storable(_shortened(text), LONGEST_LINE),
        )

    def _lines(self, running: RunningJob) -> LogLines:
        made = LogLines(running.id, running.epoch, running.attempt, self._register)
        # Atomic: two threads of a job that log at the same time get the same lines.
        lines: LogLines = vars(running).setdefault("lines", made)
        return lines


def _text(record: logging.LogRecord, running: RunningJob) -> str:
    """Return the line for people: the message, the fields without secrets, the traceback."""
    if isinstance(record.msg, dict):
        # An event of structlog, which it passed to the standard library.
        message, fields, error = str(record.msg.get("event", "")), record.msg, record.msg.get("exc_info")
        own = running.log_fields
        fields = {
            key: value
            for key, value in fields.items()
            if key not in _COLUMNS and not (key in own and own[key] == value)
        }
    else:
        message, error = record.getMessage(), record.exc_info
        extra = vars(record)
        fields = {key: extra[key] for key in extra.keys() - _PLAIN} if len(extra) > len(_PLAIN) - 4 else {}
    if fields:
        shown = redact(None, "", fields)
        message += "".join(f" {key}={value}" for key, value in shown.items())
    if error:
        message += "\n" + _traceback(error)
    return message


def _traceback(error: Any) -> str:
    if isinstance(error, tuple):
        error = error[1]
    elif not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    return "" if error is None else "".join(traceback.format_exception(error)).rstrip()


def _shortened(text: str) -> str:
    """Return the text with secrets masked, and without its middle if it is too long. The ends say most."""
    if len(text) > _LONGEST_READ:
        text = text[: _LONGEST_READ // 2] + "\n" + text[-_LONGEST_READ // 2 :]
    masked = mask_text(text)
    if len(masked) <= LONGEST_LINE:
        return masked
    left_out = f"\n… {len(masked) - LONGEST_LINE:,} characters …\n"
    half = (LONGEST_LINE - len(left_out)) // 2
    return masked[:half] + left_out + masked[-half:]
