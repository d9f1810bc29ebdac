"""Jobs whose outcomes and retry strategies do not behave."""

from typing import Any

from callboard import Cancel, Fail, Retry, RetryPolicy, Snooze, job

from .cases import Text, case


@case("failed", "Failed")
def fails_with_hostile_text() -> None:
    raise Fail(Text("text"))


class OwnFail(Fail):
    """An outcome of the user's own, without its base's attributes."""

    def __init__(self) -> None:
        pass


@case("failed")
def fails_of_its_own() -> None:
    raise OwnFail


class OwnRetry(Retry):
    def __init__(self) -> None:
        pass


@case("failed")
def retries_of_its_own() -> None:
    raise OwnRetry


@case("cancelled")
def cancels_itself() -> None:
    raise Cancel("a\x00b")


@case("failed")
def snoozes_for_ever() -> None:
    raise Snooze("-1s")


def _strategy(name: str, policy: RetryPolicy, state: str = "failed") -> None:
    @job(name=f"hostile_{name}", retry=policy)
    def fails(what: str) -> None:
        raise ValueError(what)

    def nothing() -> None:
        pass

    nothing.__name__ = name
    case(state, "ValueError", job=f"hostile_{name}")(nothing)


def _answers(value: object) -> Any:
    return lambda _state: value


def _raising(error: type[BaseException]) -> Any:
    def strategy(_state: object) -> Any:
        raise error

    return strategy


_strategy("strategy_exits", RetryPolicy(max_attempts=2, retry=_raising(SystemExit)), "retrying")
_strategy("strategy_interrupts", RetryPolicy(max_attempts=2, stop=_raising(KeyboardInterrupt)), "retrying")
_strategy("strategy_refuses", RetryPolicy(max_attempts=2, retry=_answers(False)))
_strategy("strategy_asks_nobody", RetryPolicy(max_attempts=1, wait=_raising(SystemExit)))
_strategy("strategy_waits_less_than_nothing", RetryPolicy(max_attempts=2, wait=_answers(-1)))
_strategy("strategy_waits_no_number", RetryPolicy(max_attempts=2, wait=_answers(float("nan"))), "retrying")
