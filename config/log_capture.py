"""The log capture: handlers that get the records of `logging`, whatever jobs configure.

A job or its module may remove the handlers of the root logger, disable loggers, or set levels. Its own
handlers get what it configured. Captured records depend on none of that, except for the level that somebody
sets on a logger other than the root: it decides for that logger.
"""

import logging
import sys
from collections.abc import Callable
from threading import current_thread
from typing import Any, Final

from structlog import BoundLoggerBase
from structlog.typing import EventDict, WrappedLogger

from callboard.config.log_writer import LineSink
from callboard.config.own_loggers import OwnLines

#: Our threads have names that begin so. Some of them run jobs.
_OUR_THREADS: Final = "callboard-"
_RUN_JOBS: Final = frozenset({"callboard-async", "callboard-job"})


class UnlockedHandler(logging.Handler):
    """A handler without a lock. An interrupt may end a job inside a handler: its lock would stay locked."""

    def createLock(self) -> None:  # noqa: N802 - the name that logging calls
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the record unless a filter drops it. The method of Python 3.13 needs a lock."""
        kept: bool | logging.LogRecord = self.filter(record)
        if isinstance(kept, logging.LogRecord):
            # since Python 3.12 a filter may replace the record
            record = kept
        if kept:
            self.emit(record)
        return bool(kept)


class SinkHandler(UnlockedHandler):
    """Passes each record to a sink, as a line."""

    def __init__(self, sink: LineSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody's values may raise anything
            shown = logging.makeLogRecord(
                {
                    "name": record.name,
                    "levelno": record.levelno,
                    "levelname": record.levelname,
                    "msg": f"<a line that cannot be shown: {type(error).__name__}>",
                }
            )
            line = self.format(shown)
        self._sink.put(line)


#: The levels of the methods of loggers, except info.
LEVELS: Final = {
    "debug": logging.DEBUG,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "err": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
#: The attributes of every record. A field of the same name gets another one.
_RESERVED: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
#: The fields of every line. A field of the same name gets another one.
_OF_EACH_LINE: Final = frozenset({"timestamp", "level", "event", "logger"})
#: The handlers that get every record from their level up.
_handlers: Final[list[logging.Handler]] = []
_enabled: Final = logging.Logger.isEnabledFor
_handle: Final = logging.Logger.handle
_proxy: Final = BoundLoggerBase._proxy_to_logger  # noqa: SLF001 - custom wrapper classes may use it


def start(handler: logging.Handler) -> None:
    """Give the handler the records of all loggers, from its level up."""
    _handlers.append(handler)
    logging.Logger.isEnabledFor = _is_enabled_for  # type: ignore[method-assign]
    logging.Logger.handle = _capture  # type: ignore[method-assign]


def start_structlog(in_job: Callable[[], object]) -> None:
    """Give the handlers what jobs log with a structlog that they have configured past `logging`."""

    def proxy(self: BoundLoggerBase, method_name: str, event: Any = None, **event_kw: Any) -> Any:
        if not isinstance(self._logger, logging.Logger | OwnLines) and in_job():
            _pass_event(self, method_name, event, event_kw)
        return _proxy(self, method_name, event, **event_kw)

    BoundLoggerBase._proxy_to_logger = proxy  # type: ignore[method-assign]  # noqa: SLF001


def add_extra(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add to an event what its record has from `extra=`. That replaces no field that each line has."""
    given = vars(event["_record"])
    extra = {f"{key}_" if key in _OF_EACH_LINE else key: given[key] for key in given.keys() - _RESERVED}
    return {**extra, **event}


def stop() -> None:
    """Capture nothing any more."""
    _handlers.clear()
    BoundLoggerBase._proxy_to_logger = _proxy  # type: ignore[method-assign]  # noqa: SLF001
    logging.Logger.isEnabledFor = _enabled  # type: ignore[method-assign]
    logging.Logger.handle = _handle  # type: ignore[method-assign]


def _is_enabled_for(self: logging.Logger, level: int) -> bool:
    return _is_captured(self, level) or _enabled(self, level)


def _is_captured(logger: logging.Logger, level: int) -> bool:
    """Return whether a handler wants records of this level. The root's level and `disabled` do not count."""
    if not any(level >= handler.level for handler in _handlers):
        return False
    while logger.parent is not None:
        if logger.level:
            return level >= logger.level
        logger = logger.parent
    return True


def _capture(self: logging.Logger, record: logging.LogRecord) -> None:
    """Pass a record to the captors, and then to the handlers that are configured for it."""
    try:
        kept: bool | logging.LogRecord = self.filter(record)
    except BaseException:
        _pass(self, record)
        raise
    if isinstance(kept, logging.LogRecord):
        record = kept
    if not kept:
        return
    _pass(self, record)
    thread = current_thread().name
    # A handler of a job may raise or block. A thread of ours must not end or wait for it.
    foreign = not thread.startswith(_OUR_THREADS) or thread in _RUN_JOBS
    if foreign and _enabled(self, record.levelno) and self.hasHandlers():
        self.callHandlers(record)


def _pass(logger: logging.Logger, record: logging.LogRecord) -> None:
    if _is_captured(logger, record.levelno):
        for handler in _handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


def _pass_event(logger: BoundLoggerBase, method: str, event: Any, fields: dict[str, Any]) -> None:
    fields = {**logger._context, **fields}  # noqa: SLF001 - structlog has no public name for it
    error = fields.pop("exc_info", method == "exception")
    name = str(fields.pop("logger", None) or getattr(logger._logger, "name", None) or "structlog")  # noqa: SLF001
    level = LEVELS.get(method, logging.INFO)
    record = logging.LogRecord(name, level, "", 0, "%s", (event,), _exc_info(error))
    for key, value in fields.items():
        setattr(record, f"{key}_" if key in _RESERVED else key, value)
    for handler in _handlers:
        if level >= handler.level:
            handler.handle(record)


def _exc_info(error: Any) -> Any:
    if isinstance(error, BaseException):
        return type(error), error, error.__traceback__
    return error if isinstance(error, tuple) else sys.exc_info() if error else None
