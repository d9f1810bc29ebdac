"""A job module whose jobs and imports set up logging in every way that programs do."""

import asyncio
import logging
import logging.config
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import structlog

from callboard import RetryPolicy, job

log = logging.getLogger("shop")
POOL = ThreadPoolExecutor(1)
GOT: list[str] = []
NOWHERE = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process exits


class Collecting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        GOT.append(record.getMessage())


class Raising(logging.Handler):
    def handle(self, _record: logging.LogRecord) -> bool:
        raise RuntimeError("a handler of the job's module")


class OwnLogger(logging.Logger):
    pass


def dict_config(**options: object) -> None:
    logging.config.dictConfig({"version": 1, "root": {"level": "ERROR", "handlers": []}, **options})


def file_config() -> None:
    text = "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nlevel=CRITICAL\nhandlers=\n"
    Path("logging.ini").write_text(text)
    logging.config.fileConfig("logging.ini")


def print_logger() -> None:
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(NOWHERE),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


def clear_handlers() -> None:
    logging.getLogger().handlers.clear()


def reset_structlog() -> None:
    # structlog prints now, and the test reads stderr from the same file
    sys.stdout = NOWHERE
    structlog.reset_defaults()


SETUPS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "dictConfig": dict_config,
    "fileConfig": file_config,
    "basicConfig": lambda: logging.basicConfig(force=True, level=logging.CRITICAL, stream=NOWHERE),
    "handlers.clear": clear_handlers,
    "setLevel": lambda: logging.getLogger().setLevel(logging.CRITICAL),
    "disable": lambda: logging.disable(logging.CRITICAL),
    "disabled": lambda: setattr(log, "disabled", True),
    "shutdown": logging.shutdown,
    "manager": logging.Logger.manager.loggerDict.clear,
    "structlog.configure": print_logger,
    "structlog.reset": reset_structlog,
    "setLoggerClass": lambda: logging.setLoggerClass(OwnLogger),
    "raiseExceptions": lambda: setattr(logging, "raiseExceptions", False),
    "propagate": lambda: setattr(log, "propagate", False),
    "raising handler": lambda: logging.getLogger().handlers.insert(0, Raising()),
}
if "TEST_SETUP" in os.environ:
    SETUPS[os.environ["TEST_SETUP"]]()


@job(retry=RetryPolicy(max_attempts=1))
def sets_up(how: str) -> None:
    SETUPS[how]()


@job(retry=RetryPolicy(max_attempts=1))
def says(text: str) -> None:
    with suppress(RuntimeError):
        log.info(text)
    structlog.get_logger("shop.events").info(text, n=1)


@job(retry=RetryPolicy(max_attempts=1))
def says_elsewhere(text: str) -> None:
    """Log from a thread, a pool and a task of the job."""
    thread = threading.Thread(target=log.info, args=[f"{text} thread"])
    thread.start()
    thread.join()
    POOL.submit(log.info, f"{text} pool").result()
    asyncio.run(_say(f"{text} task"))


async def _say(text: str) -> None:
    await asyncio.create_task(asyncio.to_thread(log.info, text))


@job(retry=RetryPolicy(max_attempts=1))
def collects() -> list[str]:
    handler = Collecting()
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    log.info("for the handler of the module")
    logging.getLogger().removeHandler(handler)
    return GOT


@job(retry=RetryPolicy(max_attempts=1))
def fails(secret: str) -> None:
    raise ValueError(f"cannot open postgres://app:{secret}@db/shop")


@job(retry=RetryPolicy(max_attempts=1), timeout="1s")
def sleeps() -> None:
    while True:
        time.sleep(0.02)


@job(retry=RetryPolicy(max_attempts=1))
def prints(lines: int) -> None:
    for _ in range(lines):
        print("x" * 1000, file=sys.stderr)


@job
def floods_the_log(n: int) -> None:
    for _ in range(20):
        log.info("a line of job %d %s", n, "x" * 200)
