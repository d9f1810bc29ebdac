"""Jobs whose exceptions do not behave."""

import sys
import time
from typing import Any

from .cases import Text, case


class StrRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class StrExits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class StrIsNoText(Exception):
    def _number(self) -> Any:
        return 5

    __str__ = __repr__ = _number


class StrSleeps(Exception):
    def __str__(self) -> str:
        time.sleep(1.5)
        return "slept"


class ClassRaises(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class AttributesRaise(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class AttributesExit(Exception):
    def __getattribute__(self, name: str) -> Any:
        sys.exit(name)


class NeverEqual(Exception):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not equal")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)
        self.two = two


for _kind in (
    StrRaises, StrExits, StrIsNoText, StrSleeps, ClassRaises, AttributesRaise, AttributesExit, NeverEqual,
):  # fmt: skip

    def _raise(kind: type[Exception] = _kind) -> None:
        raise kind

    _raise.__name__ = f"raises_{_kind.__name__}"
    case(error=_kind.__name__)(_raise)


@case(error="TwoArguments")
def raises_two_arguments() -> None:
    raise TwoArguments(1, 2)


@case(error="StrExits", job="hostile_async")
async def raises_in_a_task() -> None:
    raise StrExits


@case(error="ValueError")
def raises_nul() -> None:
    raise ValueError("a\x00b\ud800c")


@case(error="ValueError")
def raises_hostile_text() -> None:
    raise ValueError(Text("text"))


@case(error="ValueError")
def raises_twenty_megabytes() -> None:
    raise ValueError("x" * 20_000_000)


@case()
def raises_an_odd_class() -> None:
    odd = type("Odd", (Exception,), {})
    odd.__qualname__, odd.__module__ = "Odd\x00\ud800" + "d" * 10_000, "a\x00b"
    raise odd


@case()
def raises_a_class_without_module() -> None:
    odd = type("Odd", (Exception,), {})
    odd.__module__ = 7  # type: ignore[assignment]
    raise odd


@case(error="ExceptionGroup")
def raises_a_group() -> None:
    raise ExceptionGroup("many", [ValueError(n) for n in range(2_000)])


@case(error="ValueError")
def raises_a_chain() -> None:
    error = None
    for n in range(5_000):
        following = ValueError(n)
        following.__cause__ = error
        error = following
    assert error is not None
    raise error


@case(error="ValueError")
def raises_a_circle() -> None:
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    raise one


@case(error="RecursionError")
def recurses() -> None:
    recurses()


@case(error="SyntaxError")
def raises_syntax_error() -> None:
    raise SyntaxError


@case(error="SyntaxError")
def raises_syntax_error_with_places() -> None:
    raise SyntaxError("odd", ("file", -5, 10**9, "text\ud800", -1, -1))


@case(error="UnicodeDecodeError")
def raises_bytes() -> None:
    b"\xff\xfe".decode("utf-8")
