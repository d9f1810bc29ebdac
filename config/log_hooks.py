"""What Python itself writes to stderr becomes log lines: uncaught errors, and warnings.

A process must not wait for the reader of its stderr when it ends with an error, or when it warns.
"""

import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog

log = structlog.get_logger(__name__)


def install() -> None:
    """Log errors that end a thread or the process, errors of destructors, and warnings."""
    sys.excepthook = _on_error
    threading.excepthook = _on_thread_error
    sys.unraisablehook = _on_unraisable
    logging.captureWarnings(capture=True)


def _on_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    log.error("process.crashed", exc_info=(kind, error, traceback))


def _on_thread_error(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else None
        error = args.exc_value or args.exc_type()
        log.error("thread.crashed", thread=name, exc_info=(args.exc_type, error, args.exc_traceback))


def _on_unraisable(args: Any) -> None:
    error = args.exc_value or args.exc_type()
    log.error(
        "error.ignored",
        reason=args.err_msg or "an error in a destructor",
        source=repr(args.object)[:200],
        exc_info=(args.exc_type, error, args.exc_traceback),
    )


def uninstall() -> None:
    """Let Python write to stderr again."""
    sys.excepthook = sys.__excepthook__
    threading.excepthook = threading.__excepthook__
    sys.unraisablehook = sys.__unraisablehook__
    logging.captureWarnings(capture=False)
