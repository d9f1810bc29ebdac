"""Jobs that change how their process logs."""

import logging
import logging.config
import sys

import structlog

from callboard import current_job

from .cases import Text, case
from .errors import StrExits, StrRaises


@case("succeeded")
def disables_logging() -> None:
    logging.disable(logging.CRITICAL)


@case("succeeded")
def shuts_logging_down() -> None:
    logging.shutdown()


@case("succeeded")
def removes_log_handlers() -> None:
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.CRITICAL)


@case("succeeded")
def configures_logging() -> None:
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    logging.basicConfig(force=True, level=logging.CRITICAL)


@case("succeeded")
def resets_structlog() -> None:
    structlog.reset_defaults()


@case("succeeded")
def adds_a_handler_that_exits() -> None:
    class Exits(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            sys.exit(1)

    logging.getLogger("elsewhere").addHandler(Exits())


@case("succeeded")
def logs_what_cannot_be_shown() -> None:
    logging.getLogger("shop").error("%s %s", StrExits(), Text("text"), extra={"odd": StrRaises()})


@case("succeeded")
def reports_hostile_notes() -> None:
    current_job().progress(0.5, Text("note"))
