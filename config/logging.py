"""Configure logging. A log line is an event name (`job.retried`) with fields; secrets are masked.

Each process calls `configure` once at its start. Other modules use `log = structlog.get_logger(__name__)` and
`log.info("job.retried", job_id=...)`. Records of the standard library's `logging` (Dramatiq, APScheduler,
SQLAlchemy, uvicorn) go the same way. Every event is redacted before it is formatted or cut.

The loggers of our own modules write directly to the sink. Nothing that a job's module configures in `logging`
or structlog changes that.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from callboard.config import log_capture, log_hooks, own_loggers
from callboard.config.log_format import HumanLines, json_line
from callboard.config.log_writer import Background, LineSink, LogWriter, StreamLines
from callboard.config.redaction import MASK, is_secret_key, is_suspect, mask_text

LogFormat = Literal["auto", "json", "human"]

#: As it is before users' code can replace it: without a time there would be no log line.
_now: Final = datetime.now

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: Libraries whose info records are noise when our own level is `info`.
_NOISY_LIBRARIES: Final = (
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
_MAX_TEXT: Final = 2_000
_MAX_TRACEBACK: Final = 8_000
_MAX_SEARCHED: Final = 64_000
_MAX_ITEMS: Final = 50
_MAX_DEPTH: Final = 6
_INT64: Final = 2**63


def configure(
    format: LogFormat = "auto",  # noqa: A002 - the setting's own name
    level: str = "info",
    stream: TextIO | None = None,
    *,
    background: Background | None = None,
) -> None:
    """Write all logs of this process to `stream` (default: stderr), as JSON lines or as text for people.

    format:     `auto` is text on a terminal and JSON otherwise
    background: write in a thread, so that no log call waits for the stream; also log uncaught errors and
                warnings. For processes that run long.
    """
    out = _stderr() if stream is None else stream
    line = _line_processors(format, out)
    _use(line, level, _sink(out, line, background))


def configure_for_jobs(
    format: LogFormat,  # noqa: A002 - the setting's own name
    level: str,
    job_fields: Callable[[], Mapping[str, object]],
    *,
    background: Background | None = None,
) -> None:
    """Configure a process that runs jobs: as `configure` does, whatever jobs do to `logging` and structlog.

    job_fields: returns the fields that each line of the job running here gets; none outside a job.
    """

    def add_job_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        fields = job_fields()
        if fields and event.get("job_id", fields.get("job_id")) == fields.get("job_id"):
            return {**event, **{key: value for key, value in fields.items() if key not in event}}
        return event

    def set_job_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Add the fields of the job to its own line. A value of the line itself gets another name."""
        fields = job_fields()
        if not fields:
            return event
        taken = {f"{key}_": event[key] for key, value in fields.items() if event.get(key, value) != value}
        return {**event, **taken, **fields}

    out = _stderr()
    line = _line_processors(format, out)
    shown = _use(line, level, _sink(out, line, background), [add_job_fields], [set_job_fields])
    log_capture.start(shown)
    log_capture.start_structlog(job_fields)
    root = logging.getLogger()
    # A handler must stay: without one, `basicConfig` of a job's module adds one that shows each line again.
    root.handlers = [logging.NullHandler()]
    root.setLevel(_LEVELS["debug"] if level == "debug" else logging.INFO)


def _stderr() -> TextIO:
    """Return stderr, or nowhere: a process may start with a closed stderr."""
    return sys.stderr or open(os.devnull, "w")  # noqa: PTH123 - open until the process exits


def _line_processors(format_: LogFormat, out: TextIO) -> list[Processor]:
    """Return the processors that stamp an event, clean it and make it a line."""
    terminal = out.isatty()
    human = format_ == "human" or (format_ == "auto" and terminal)
    colour = terminal and not os.environ.get("NO_COLOR")
    return [
        _stamp_time if human else _stamp,
        structlog.processors.format_exc_info,
        redact,
        HumanLines(terminal=terminal, colour=colour) if human else json_line,
    ]


def _stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = _now(UTC).isoformat().replace("+00:00", "Z")
    return event


def _stamp_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = _now().astimezone().strftime("%H:%M:%S")
    return event


def _has_descriptor(stream: TextIO) -> bool:
    """Return whether a stream writes to a file descriptor. One that a test or a shell put there may not."""
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True


def _sink(out: TextIO, processors: list[Processor], background: Background | None) -> LineSink:
    if background is None or not _has_descriptor(out):
        return StreamLines(out)

    def notice(count: int) -> str:
        reason = "nobody read the log, or it could not be written"
        event = {"level": "warning", "event": "log.lines_dropped", "logger": __name__}
        line: Any = {**event, "count": count, "reason": reason}
        for processor in processors:
            line = processor(None, "warning", line)
        return str(line)

    log_hooks.install()
    return LogWriter(out, notice, background)


def _use(
    line: Sequence[Processor],
    level: str,
    sink: LineSink,
    more: Sequence[Processor] = (),
    others: Sequence[Processor] = (),
) -> logging.Handler:
    """Make loggers of all kinds write to the sink; return the handler for records of `logging`.

    more:   further processors for the events of all loggers
    others: further processors for the events of loggers that are not our modules'
    """
    stamp, *final = line
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        *more,
        stamp,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[log_capture.add_extra, *common],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *others, *final],
    )
    handler = log_capture.SinkHandler(sink)
    handler.setFormatter(formatter)
    handler.setLevel(_LEVELS[level])
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(_LEVELS[level])
    for name in _NOISY_LIBRARIES:
        logging.getLogger(name).setLevel(
            max(_LEVELS[level], logging.WARNING) if level != "debug" else logging.INFO
        )
    own_loggers.configure(sink, [*common, *final], _LEVELS[level])
    structlog.configure(
        processors=[
            _drop_unwanted,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    return handler


def _drop_unwanted(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Drop an event that nobody wants. structlog's own filter reads the levels past the log capture."""
    if not logger.isEnabledFor(log_capture.LEVELS.get(method, logging.INFO)):
        raise structlog.DropEvent
    return event


def defer_to_host() -> None:
    """Send our events to the standard `logging` of the program that imports us.

    Do nothing if that program has configured structlog.
    """
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
    """Mask secrets, by key and by pattern, and then cut long values. The result is plain JSON."""
    if _is_plain(event):
        return event
    return {key: _clean(str(key), value, 0) for key, value in event.items()}


def _is_plain(event: EventDict) -> bool:
    """Return whether an event has only numbers and short texts and nothing to mask.

    Nearly all events are of this kind, so one search over their joined texts replaces a search for each.
    """
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
    return len(joined) <= _MAX_TEXT and not is_suspect(joined)


def _clean(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if is_secret_key(key):
        return MASK
    if isinstance(value, str):
        return _cut(value, _MAX_TRACEBACK if key == "exception" else _MAX_TEXT)
    match value:
        case int():
            return value if -_INT64 <= value < _INT64 else str(value)
        case float():
            return value
        case dict() if depth < _MAX_DEPTH:
            items = list(value.items())[:_MAX_ITEMS]
            return {str(inner): _clean(str(inner), item, depth + 1) for inner, item in items}
        case list() | tuple() | set() | frozenset() if depth < _MAX_DEPTH:
            return [_clean("", item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
        case _:
            return _cut(str(value), _MAX_TEXT)


def _cut(text: str, limit: int) -> str:
    """Return the masked text. A long text loses its middle, because its end often holds the error."""
    if len(text) <= limit:
        return mask_text(text)
    # Only the ends of a huge text are searched. A secret that this cut splits is in the part left out below.
    head, tail = mask_text(text[: _MAX_SEARCHED // 2]), mask_text(text[-_MAX_SEARCHED // 2 :])
    half = limit // 2
    return f"{head[:half]} …[{len(text) - limit} characters]… {tail[-half:]}"
