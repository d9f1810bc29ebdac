"""The loggers of our own modules: they write to the process's sink, however jobs configure structlog."""

from collections.abc import Sequence
from typing import Any, Final

import structlog
from structlog._config import BoundLoggerLazyProxy
from structlog.typing import Processor

from callboard.config.log_writer import LineSink

#: The names of our modules begin with this.
_OURS: Final = "callboard."


class OwnLines:
    """A logger that passes finished lines to a sink."""

    def __init__(self, sink: LineSink, name: str) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = sink.put


class _Configuration:
    """How our loggers write: None until `configure`, as in programs that only use the client."""

    sink: LineSink | None = None
    processors: Sequence[Processor] = ()
    level = 0
    #: The loggers that have taken over this configuration.
    bound: Final[list[BoundLoggerLazyProxy]] = []


def configure(sink: LineSink, processors: Sequence[Processor], level: int) -> None:
    """Make the loggers that our modules get from structlog write to this sink."""
    _Configuration.sink = sink
    _Configuration.processors = processors
    _Configuration.level = level
    # The modules hold structlog's proxies, which read its global configuration when they are first used.
    BoundLoggerLazyProxy.bind = _bind  # type: ignore[method-assign]


def reset() -> None:
    """Make our loggers use structlog's own configuration again."""
    _Configuration.sink = None
    while _Configuration.bound:
        vars(_Configuration.bound.pop()).pop("bind", None)


_plain_bind: Final = BoundLoggerLazyProxy.bind


def _bind(self: BoundLoggerLazyProxy, **new_values: Any) -> Any:
    name = self._logger_factory_args[0] if self._logger_factory_args else None
    sink = _Configuration.sink
    if sink is None or not isinstance(name, str) or not name.startswith(_OURS):
        return _plain_bind(self, **new_values)
    logger = structlog.wrap_logger(
        OwnLines(sink, name),
        processors=_Configuration.processors,
        wrapper_class=structlog.make_filtering_bound_logger(_Configuration.level),
        context_class=dict,
    ).bind()

    def bind(**values: Any) -> Any:
        return logger.bind(**values) if values else logger

    self.bind = bind  # type: ignore[method-assign]
    _Configuration.bound.append(self)
    return bind(**new_values)
