"""Jobs whose results cannot be written, and jobs that swallow their interrupts."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .cases import case, doze


class Plain:
    pass


class Explodes(dict[str, int]):
    def __iter__(self) -> Any:
        sys.exit("iterated")

    items = keys = values = __iter__


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    return deep


for _name, _make in {
    "set": lambda: {1, 2},
    "bytes": lambda: b"bytes",
    "nan": lambda: float("nan"),
    "infinity": lambda: [float("inf")],
    "generator": lambda: (n for n in range(3)),
    "file": lambda: open(os.devnull),  # noqa: PTH123, SIM115
    "object": Plain,
    "class": lambda: Plain,
    "circle": _circle,
    "deep": _deep,
    "int_keys": lambda: {1: "a"},
    "megabytes": lambda: "x" * 10_000_000,
    "surrogate": lambda: "\ud800",
    "nul": lambda: "a\x00b",
    "lock": threading.Lock,
}.items():

    def _return(make: Callable[[], Any] = _make) -> Any:
        return make()

    _return.__name__ = f"returns_{_name}"
    case("failed", job="hostile_result")(_return)


@case("succeeded", job="hostile_result")
def returns_what_explodes() -> object:
    """A subclass of dict is written as its plain value, and its methods are not called."""
    return Explodes()


@case("succeeded", job="hostile_result")
def returns_a_large_integer() -> int:
    return 2**70


@case("succeeded", job="hostile_result")
def returns_an_awaitable() -> Any:
    return asyncio.sleep(0.01, "awaited")


@case(error="TimedOut", job="hostile_timed")
def swallows_its_timeout() -> str:
    with suppress(BaseException):
        doze(20)
    return "done"


@case(error="TimedOut", job="hostile_timed_async")
async def swallows_its_timeout_on_the_loop() -> str:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(20)
    return "done"


@case(error="TimedOut", job="hostile_timed")
def raises_another_at_its_timeout() -> None:
    try:
        doze(20)
    except BaseException as error:
        raise OSError("cleaned up") from error
