"""Jobs whose exceptions, policies and results fail themselves. Copied to where the workers run."""

import time
from collections.abc import Callable
from typing import Any

import dramatiq
import tenacity
from stage_jobs import note_start  # type: ignore[import-not-found]

from callboard import Fail, RetryPolicy, job

TWICE = RetryPolicy(max_attempts=2, wait=tenacity.wait_fixed(0))


def exits(*_: object) -> Any:
    raise SystemExit(3)


def sleeps(*_: object) -> str:
    time.sleep(10)
    return "late"


def error(text: str = "words", **methods: Any) -> Exception:
    kind: type[Exception] = type("Hostile", (Exception,), methods)
    return kind(text)


ERRORS: dict[str, Callable[[], BaseException]] = {
    "str exits": lambda: error(__str__=exits),
    "str sleeps": lambda: error(__str__=sleeps),
    "bool exits": lambda: error(__bool__=exits),
    "class exits": lambda: error(__class__=property(exits)),
    "attributes exit": lambda: error(__getattribute__=exits),
    "NUL": lambda: error("a\x00b"),
    "surrogate": lambda: error("\ud800", __qualname__="Hostile"),
    "name": lambda: type("H" * 10_000, (Exception,), {"__module__": "\ud800\x00"})("words"),
    "large": lambda: error("x" * 20_000_000),
    "no UTF-8": lambda: UnicodeDecodeError("utf-8", b"\xff" * 1_000, 0, 1, "bad"),
    "group": lambda: ExceptionGroup("many", [error(str(n)) for n in range(2_000)]),
    "recursion": lambda: RecursionError("words"),
}


@job(retry=TWICE)
def raises(which: str) -> None:
    note_start()
    made = ERRORS[which]()
    raise made


@job(retry=TWICE, queue="async")
async def raises_async(which: str) -> None:
    note_start()
    made = ERRORS[which]()
    raise made


@job(retry=RetryPolicy(max_attempts=2, wait=exits, retry=tenacity.retry_if_exception(exits)))
def policy_exits() -> None:
    note_start()
    raise ValueError("words")


@job(retry=RetryPolicy(max_attempts=5, wait=tenacity.wait_fixed(0)))
def returns(which: str) -> object:
    note_start()
    return {"set": {1}, "NUL": "a\x00", "NaN": float("nan"), "exits": error(__class__=property(exits))}[which]


@job(queue="async", retry=RetryPolicy(max_attempts=5, wait=tenacity.wait_fixed(0)))
async def returns_async() -> object:
    note_start()
    return {1}


@dramatiq.actor
def returns_plain(which: str) -> object:
    note_start()
    return {"set": {1}, "keys": {1: 2}}[which]


@dramatiq.actor
def takes(value: object) -> object:
    note_start()
    return value


@dramatiq.actor(max_retries=0)
def told(data: dict[str, Any], failure: dict[str, str]) -> object:
    return [data["args"], failure["type"]]


@dramatiq.actor(max_retries=0, on_failure="told")
def raises_plain(which: str) -> None:
    note_start()
    made = ERRORS[which]()
    raise made


@job
def good(n: int) -> int:
    return n


@job
def fails_for_a_reason() -> None:
    raise Fail(error(__str__=exits))  # type: ignore[arg-type]
