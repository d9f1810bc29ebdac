"""Logs: the event's name is the message (`job.retried`), fields are data, nothing secret gets out.

Call `configure` once, first thing in a process. Everyone else says `log = structlog.get_logger(__name__)` and
`log.info("job.retried", job_id=...)`. Records of the standard library (Dramatiq, APScheduler, SQLAlchemy, uvicorn)
take the same way out, and all pass one redaction before anything is formatted or cut.
"""

import logging
import os
import sys
from typing import Final, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from callboard.config.log_format import HumanLines, Lines
from callboard.config.redaction import MASK, is_secret_key, is_suspect, mask_text

LogFormat = Literal["auto", "json", "human"]

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: Libraries whose information is noise at our own level `info`.
_CHATTY: Final = (
    "alembic",
    "apscheduler",
    "asyncio",
    "dramatiq",
    "httpx",
    "httpcore",
    "sqlalchemy",
    "uvicorn.access",
    "uvicorn.error",
)
_FIRST: Final = ("timestamp", "level", "event", "logger")
_LONGEST_TEXT: Final = 2_000
_LONGEST_TRACE: Final = 8_000
_LONGEST_READ: Final = 64_000
_MOST_ITEMS: Final = 50
_DEEPEST: Final = 6
_INT64: Final = 2**63


def configure(
    format: LogFormat = "auto",  # noqa: A002 - the setting's own name
    level: str = "info",
    stream: TextIO | None = None,
    heard: str | None = None,
) -> None:
    """Send all logs of this process to `stream` (stderr), as JSON lines or for people; `auto` asks the terminal.

    heard: the level from which other handlers than this one want to hear, where that is lower. Without it nobody else
    hears our own events: they are written at once, and cost a third of a record of `logging`.
    """
    lowest = min(_LEVELS[level], _LEVELS[heard or level])
    out = sys.stderr if stream is None else stream
    terminal = out.isatty()
    human = format == "human" or (format == "auto" and terminal)
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
    ]
    lines = HumanLines(terminal=terminal, colour=terminal and not os.environ.get("NO_COLOR"))
    ending: list[Processor] = [structlog.processors.format_exc_info, redact, lines if human else _json]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*common, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    handler.setLevel(_LEVELS[level])
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(lowest)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(
            max(_LEVELS[level], logging.WARNING) if level != "debug" else logging.INFO
        )
    structlog.configure(
        processors=[
            *common,
            *([structlog.stdlib.ProcessorFormatter.wrap_for_formatter] if heard else ending),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.stdlib.LoggerFactory() if heard else lambda name="": Lines(handler, name),
        cache_logger_on_first_use=True,
    )


def defer_to_host() -> None:
    """In a program that is not ours: let our events be ordinary log records of its own `logging`, unless it set structlog up."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            redact,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what looks secret, by key and by pattern, then cut what is long; what is left is plain JSON."""
    if _is_plain(event):
        return event
    return {key: _clean(str(key), value, 0) for key, value in event.items()}


def _is_plain(event: EventDict) -> bool:
    """Whether an event is a few short texts and numbers with nothing to mask, as nearly all are: one look for all of them."""
    texts = []
    for key, value in event.items():
        kind = type(value)
        if kind is str:
            texts.append(value)
        elif kind is int:
            if not -_INT64 <= value < _INT64:
                return False
        elif kind is not float and value is not None:
            return False
        if is_secret_key(key):
            return False
    joined = "\n".join(texts)
    return len(joined) <= _LONGEST_TEXT and not is_suspect(joined)


def _clean(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if is_secret_key(key):
        return MASK
    if isinstance(value, str):
        return _cut(value, _LONGEST_TRACE if key == "exception" else _LONGEST_TEXT)
    match value:
        case int():
            return value if -_INT64 <= value < _INT64 else str(value)
        case float():
            return value
        case dict() if depth < _DEEPEST:
            items = list(value.items())[:_MOST_ITEMS]
            return {str(inner): _clean(str(inner), item, depth + 1) for inner, item in items}
        case list() | tuple() | set() | frozenset() if depth < _DEEPEST:
            return [_clean("", item, depth + 1) for item in list(value)[:_MOST_ITEMS]]
        case _:
            return _cut(str(value), _LONGEST_TEXT)


def _cut(text: str, longest: int) -> str:
    """The masked text, its middle left out when it is long: beginnings name things, ends hold the error."""
    if len(text) <= longest:
        return mask_text(text)
    # of a huge text only the ends are read; what a cut here tears apart lies in the middle that is left out
    head, tail = mask_text(text[: _LONGEST_READ // 2]), mask_text(text[-_LONGEST_READ // 2 :])
    half = longest // 2
    return f"{head[:half]} …[{len(text) - longest} characters]… {tail[-half:]}"


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    ordered = {key: event.pop(key) for key in _FIRST if key in event}
    ordered.update(event)
    try:
        return orjson.dumps(ordered).decode()
    except orjson.JSONEncodeError:
        # lone surrogates, as undecodable file names have them, are no JSON
        safe = {
            key: str(value).encode("utf-8", "backslashreplace").decode() for key, value in ordered.items()
        }
        return orjson.dumps(safe).decode()
