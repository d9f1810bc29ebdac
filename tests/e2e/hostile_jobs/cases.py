"""The cases, the jobs that run them, and the jobs that a good worker still runs afterwards."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from tenacity import wait_fixed

from callboard import RetryPolicy, job

ONCE = RetryPolicy(max_attempts=1)
#: A case that should run once and runs again shows itself by its attempts.
MORE = RetryPolicy(max_attempts=3, wait=wait_fixed(0))
NAP = 0.02


class Case(NamedTuple):
    """What a job does, and how it must end. error: the last part of the error's class; empty: any or none."""

    run: Callable[[], Any]
    state: str
    error: str
    job: str


CASES: dict[str, Case] = {}


def case(state: str = "failed", error: str = "", *, job: str = "hostile") -> Callable[[Any], Any]:
    def add(run: Any) -> Any:
        CASES[run.__name__] = Case(run, state, error, job)
        return run

    return add


@job(retry=ONCE)
def hostile(what: str) -> object:
    return CASES[what].run()


@job(retry=ONCE)
async def hostile_async(what: str) -> object:
    return await CASES[what].run()


@job(retry=MORE)
def hostile_result(what: str) -> object:
    return CASES[what].run()


@job(retry=ONCE, timeout=timedelta(seconds=1), hard_timeout=timedelta(seconds=30))
def hostile_timed(what: str) -> object:
    return CASES[what].run()


@job(retry=ONCE, timeout=timedelta(seconds=1), hard_timeout=timedelta(seconds=30))
async def hostile_timed_async(what: str) -> object:
    return await CASES[what].run()


class Text(str):
    """A text whose methods fail."""

    __slots__ = ()

    def _fail(self, *_: object, **__: object) -> Any:
        raise RuntimeError("not this text")

    encode = replace = strip = splitlines = __len__ = __getitem__ = __format__ = __add__ = __str__ = _fail


# What a good worker still does afterwards.


@job
def good(n: int) -> int:
    return n


@job
async def good_async(n: int) -> int:
    await asyncio.sleep(0)
    return n


@job(retry=ONCE)
def logs_and_fails() -> None:
    logging.getLogger("shop").warning("about to fail")
    raise ValueError("as it must")


@job(retry=ONCE, timeout=timedelta(seconds=1))
def too_long() -> None:
    doze(60)


@job(retry=ONCE)
def waits_for_cancel() -> None:
    doze(60)


def doze(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(NAP)
