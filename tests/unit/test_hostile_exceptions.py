"""Exceptions, outcomes and retry policies whose own code fails: the attempt ends, and the job says what failed."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest
import tenacity

from callboard.jobs.attempts import users_code
from callboard.jobs.attempts.error_text import LONGEST_CLASS, LONGEST_MESSAGE, LONGEST_TRACEBACK
from callboard.jobs.attempts.verdict import Verdict
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.outcomes import Cancel, Fail, Outcome, Retry, Snooze
from callboard.jobs.model.retry import LONGEST_DELAY, RetryPolicy
from callboard.jobs.model.states import Verb
from callboard.workers.execute.attempt import delay_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=5, wait=tenacity.wait_fixed(7))
VERDICT = Verdict("host:1")


def job(attempt: int = 1, max_attempts: int = 5) -> Any:
    return SimpleNamespace(
        id=new_id(), epoch=1, claim_id=new_id(), name="j", attempt=attempt, max_attempts=max_attempts,
        enqueued_at=NOW, options=None, log_fields={},
    )  # fmt: skip


def end_of(error: BaseException, policy: RetryPolicy = POLICY, **of_job: int) -> Finish:
    """The end of an attempt that raised this error, as the worker makes it."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - like the worker
        return VERDICT.raised(job(**of_job), caught, policy, NOW, delay=delay_of(caught))


def hostile(**methods: Callable[..., Any]) -> BaseException:
    return type("Hostile", (Exception,), methods)("inner words")


def fails(*_: object) -> Any:
    raise ZeroDivisionError("no words")


def exits(*_: object) -> Any:
    raise SystemExit(3)


def stops(*_: object) -> Any:
    raise KeyboardInterrupt


def number(*_: object) -> Any:
    return 5


ANY_METHOD = (
    "__str__", "__repr__", "__getattribute__", "__getattr__", "__eq__", "__bool__", "__len__", "__hash__",
    "__setattr__", "__reduce__", "__dir__",
)  # fmt: skip
PROPERTIES = (
    "__class__",
    "__traceback__",
    "__cause__",
    "__context__",
    "__notes__",
    "__suppress_context__",
    "args",
)


@pytest.mark.parametrize("answer", [fails, exits, stops, number])
@pytest.mark.parametrize("name", ANY_METHOD)
def test_an_exception_whose_method_fails_is_a_failed_attempt_under_the_jobs_policy(name, answer):
    end = end_of(hostile(**{name: answer}))
    assert (end.verb, end.delay) == (Verb.RETRY, timedelta(seconds=7))
    assert end.error.error_class == f"{__name__}.Hostile"
    assert end.error.message.startswith("inner words")
    assert "in end_of" in end.error.traceback


@pytest.mark.parametrize("answer", [fails, exits, stops, number])
@pytest.mark.parametrize("name", PROPERTIES)
def test_an_exception_whose_attribute_fails_is_a_failed_attempt_under_the_jobs_policy(name, answer):
    end = end_of(hostile(**{name: property(answer)}))
    assert (end.verb, end.delay) == (Verb.RETRY, timedelta(seconds=7))
    assert end.error.error_class == f"{__name__}.Hostile"
    assert end.error.message.startswith("inner words")
    assert "in end_of" in end.error.traceback


def test_what_could_not_be_read_is_named_with_the_error():
    end = end_of(hostile(__str__=exits))
    assert end.error.message == (
        "inner words\n[Callboard: the text of the exception could not be read: it raised SystemExit]"
    )


def test_a_text_that_takes_long_does_not_keep_the_attempt_from_ending():
    leave = threading.Event()
    began = time.monotonic()
    end = end_of(hostile(__str__=lambda _: leave.wait(20) and "late"))
    assert time.monotonic() - began < 10
    leave.set()
    assert end.verb is Verb.RETRY
    assert "it took longer than 1 s" in end.error.message
    assert "in end_of" in end.error.traceback


def test_texts_that_never_end_do_not_use_up_the_threads(monkeypatch):
    leave = threading.Event()
    monkeypatch.setattr(users_code, "_LONGEST", 0.01)
    monkeypatch.setattr(users_code, "_endless", [])
    try:
        ends = [end_of(hostile(__str__=lambda _: leave.wait(20) and "late")) for _ in range(25)]
        assert len(users_code._endless) == users_code._MOST_ENDLESS
        assert "earlier calls have not returned" in ends[-1].error.message
    finally:
        leave.set()


class Text(str):
    """A text whose methods fail."""

    __slots__ = ()
    __str__ = __repr__ = __getitem__ = __len__ = __eq__ = __hash__ = __format__ = __add__ = __bool__ = fails
    replace = encode = split = startswith = format = join = fails


def test_a_text_with_methods_of_its_own_counts_with_its_plain_value():
    assert end_of(hostile(__str__=lambda _: Text("plain"))).error.message == "plain"
    assert end_of(ValueError(Text("plain"))).error.message.startswith("[Callboard: ")
    for kind in (Fail, Cancel):
        assert end_of(kind(Text("plain"))).error.message == "plain"
    assert end_of(Retry("5s", Text("plain"))).error.message == "retry in 5s: plain"
    assert end_of(Snooze(Text("5s"), Text("plain"))).delay == timedelta(seconds=5)
    assert end_of(Fail(hostile(__str__=exits))).error.message == "(its text cannot be read: SystemExit)"


@pytest.mark.parametrize(
    ("text", "stored"),
    [("a\x00b", "a\N{REPLACEMENT CHARACTER}b"), ("\ud800", "?"), ("x" * 2_000, "x" * 2_000)],
)
def test_a_message_is_stored_as_postgres_can_store_it(text, stored):
    assert end_of(ValueError(text)).error.message == stored


def test_what_is_cut_says_how_much():
    error = end_of(ValueError("x" * 20_000_000)).error
    assert len(error.message) <= LONGEST_MESSAGE
    assert error.message.endswith("x … 19,998,028 characters cut")
    assert "in end_of" in error.traceback
    assert error.traceback.endswith("x … 19,998,028 characters cut\n")
    long_chain = end_of(chain(1_000)).error.traceback
    assert len(long_chain) <= LONGEST_TRACEBACK
    assert long_chain.startswith("… ")
    assert " characters cut\n" in long_chain.partition("\n")[0] + "\n"
    assert Fail("x" * 5_000).reason.endswith("… 4,023 characters cut")


@pytest.mark.parametrize("where", ["name", "module"])
@pytest.mark.parametrize("text", ["A\x00b", "A\ud800", "A" * 10_000, "A<script>", ""])
def test_a_class_of_any_name_is_stored(where, text):
    kind = type("A", (Exception,), {})
    if where == "module":
        kind.__module__ = text
    else:
        kind.__qualname__ = text
    name = end_of(kind("words")).error.error_class
    assert len(name) <= LONGEST_CLASS
    assert not {"\x00", "\ud800"} & set(name)
    name.encode()


@pytest.mark.parametrize("module", [None, 5, property(fails)])
def test_a_class_without_a_module_has_its_name(module):
    kind = type("Odd", (Exception,), {"__module__": module})
    assert end_of(kind("words")).error.error_class == "Odd"


def test_a_metaclass_is_not_asked_for_the_name():
    class Meta(type):
        __module__ = property(fails)  # type: ignore[assignment]
        __name__ = property(fails)  # type: ignore[assignment]
        __instancecheck__ = __hash__ = __eq__ = fails  # type: ignore[assignment]

    kind = Meta("Odd", (Exception,), {})
    end = end_of(kind("words"))
    assert end.verb is Verb.RETRY
    assert end.error.message.startswith("words")
    assert end.error.error_class.endswith(".Odd")


def test_an_error_of_the_users_cannot_pass_for_one_of_ours():
    kind = type("Mine", (Exception,), {"stored_as": "TimedOut"})
    assert end_of(kind()).error.error_class == f"{__name__}.Mine"


def chain(length: int) -> BaseException:
    error: BaseException | None = None
    for number_ in range(length):
        try:
            raise ValueError(f"link {number_}") from error
        except ValueError as caught:
            error = caught
    assert error is not None
    return error


def circle() -> BaseException:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


def too_deep() -> BaseException:
    try:
        return too_deep()
    except RecursionError as error:
        return error


def group(depth: int) -> BaseException:
    error: BaseException = ValueError("the innermost")
    for _ in range(depth):
        error = BaseExceptionGroup("nested", [error])
    return error


@pytest.mark.parametrize(
    ("error", "message", "told"),
    [
        (ExceptionGroup("many", [ValueError(str(n)) for n in range(2_000)]), "many (2000 sub", "and 1985 more"),
        (group(2_000), "nested (1 sub-exception)", "nested"),
        (chain(5_000), "link 4999", "link 4999"),
        (circle(), "one", "ValueError: two"),
        (too_deep(), "maximum recursion depth exceeded", "RecursionError"),
        (SyntaxError(), "None", "SyntaxError"),
        (SyntaxError("words", ("f", "x", fails, 5)), "", "in end_of"),
        (UnicodeDecodeError("utf-8", b"\xff" * 1_000_000, 0, 1, "bad"), "'utf-8' codec can't", "UnicodeDecodeError"),
        (OSError(2, "gone", "\ud800"), "[Errno 2] gone", "FileNotFoundError"),
        (ValueError(10**5_000), "", "in end_of"),
        (ValueError(), "", "ValueError"),
        (SystemExit(3), "3", "SystemExit: 3"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_exception_of_any_shape_is_stored_within_bounds(error, message, told):
    end = end_of(error)
    assert end.verb is Verb.RETRY
    assert end.error.message.startswith(message)
    assert told in end.error.traceback
    assert len(end.error.traceback) <= LONGEST_TRACEBACK


def test_notes_of_any_kind_are_stored_or_left_out():
    error = ValueError("words")
    error.__notes__ = ["a note", hostile(__str__=exits, __repr__=exits)]  # type: ignore[list-item]
    assert "a note" in end_of(error).error.traceback
    error.__notes__ = hostile(__iter__=exits, __repr__=exits)  # type: ignore[assignment]
    assert "in end_of" in end_of(error).error.traceback


class Held:
    pass


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        RetryPolicy(wait=fails),
        RetryPolicy(retry=tenacity.retry_if_exception(fails)),
        RetryPolicy(stop=exits),
    ],
    ids=["plain", "wait", "retry", "stop"],
)
@pytest.mark.parametrize("make", [lambda: ValueError("words"), lambda: hostile(__str__=fails)])
def test_what_an_exception_held_is_given_back_at_once(policy, make):
    held: list[weakref.ref[Held]] = []

    def with_held() -> BaseException:
        error = make()
        error.held = Held()
        held.append(weakref.ref(error.held))
        return error

    def attempt() -> None:
        try:
            raise with_held()
        except BaseException as error:  # noqa: BLE001 - like the worker
            VERDICT.raised(job(), error, policy, NOW)

    gc.collect()
    gc.disable()
    try:
        attempt()
        assert held[0]() is None
    finally:
        gc.enable()


class Instances(type(Exception)):  # type: ignore[misc]
    """A metaclass whose `isinstance` exits."""

    __instancecheck__ = exits  # type: ignore[assignment]


Asked = Instances("Asked", (Exception,), {})
FAILING = {
    "wait": {"wait": fails},
    "wait exits": {"wait": exits},
    "wait of tenacity's": {"wait": tenacity.wait_exception(exits)},
    "wait in a chain": {"wait": tenacity.wait_chain(tenacity.wait_fixed(1)) + tenacity.wait_exception(fails)},
    "wait is None": {"wait": lambda _: None},
    "wait is text": {"wait": lambda _: "x"},
    "wait is NaN": {"wait": lambda _: float("nan")},
    "wait without arguments": {"wait": lambda: 1},
    "stop": {"stop": stops},
    "retry": {"retry": exits},
    "retry of no truth": {"retry": lambda _: hostile(__bool__=exits)},
    "retry_on": {"retry_on": (Asked,)},
    "never_on": {"never_on": (Asked,)},
}


@pytest.mark.parametrize("name", FAILING)
def test_a_policy_that_fails_is_named_and_the_attempt_ends(name):
    policy = RetryPolicy(max_attempts=5, **FAILING[name])
    end = end_of(ValueError("words"), policy)
    assert (end.verb, end.delay) == (Verb.RETRY, timedelta(minutes=1))
    assert end.error.error_class == "ValueError"
    part = name.split()[0]
    assert end.error.message.startswith(f"words\n[Callboard: {part} of the retry policy failed: ")
    last = end_of(ValueError("words"), policy, attempt=5)
    assert last.verb is Verb.FAIL
    # The last attempt does not ask `wait`.
    assert ("no attempt is left" in last.error.message) == (part == "never_on")


def test_a_policy_that_takes_long_is_named_and_the_attempt_ends():
    leave = threading.Event()
    end = end_of(ValueError("words"), RetryPolicy(wait=lambda _: leave.wait(20)))
    leave.set()
    assert (end.verb, end.delay) == (Verb.RETRY, timedelta(minutes=1))
    assert "it took longer than 1 s" in end.error.message


@pytest.mark.parametrize("failing", [fails, exits, lambda *_: hostile(__bool__=exits)])
def test_a_retry_when_of_dramatiqs_that_fails_is_named(failing):
    end = end_of(ValueError("words"), RetryPolicy.from_dramatiq(retry_when=failing))
    assert (end.verb, end.delay) == (Verb.RETRY, timedelta(minutes=1))
    assert "retry of the retry policy failed: " in end.error.message
    end = end_of(ValueError("words"), RetryPolicy.from_dramatiq(throws=Asked))
    assert "never_on of the retry policy failed: SystemExit: 3" in end.error.message


@pytest.mark.parametrize("attempt", [1, 46, 1_023, 1_024, 1_100, 4_999])
@pytest.mark.parametrize(
    ("wait", "longest"),
    [
        (tenacity.wait_exponential(multiplier=5, max=60), 60),
        (tenacity.wait_exponential(multiplier=0.5, max=60, exp_base=1.5), 60),
        (tenacity.wait_exponential(), LONGEST_DELAY.total_seconds()),
        (tenacity.wait_random_exponential(multiplier=5, max=60), 60),
        (tenacity.wait_random_exponential(), LONGEST_DELAY.total_seconds()),
        (tenacity.wait_exponential_jitter(max=60, jitter=1), 60),
        (tenacity.wait_exponential_jitter(multiplier=0.1, exp_base=1.1), LONGEST_DELAY.total_seconds()),
        (tenacity.wait_exponential(multiplier=5, max=60) + tenacity.wait_random(0, 5), 65),
        (lambda state: 5.0 ** min(state.attempt_number, 440), LONGEST_DELAY.total_seconds()),
        (lambda state: 5**state.attempt_number, LONGEST_DELAY.total_seconds()),
        (lambda state: Decimal(5) ** state.attempt_number, LONGEST_DELAY.total_seconds()),
    ],
)
def test_a_late_attempt_waits_for_no_longer_than_the_cap(attempt, wait, longest):
    end = end_of(ValueError("words"), RetryPolicy(wait=wait), attempt=attempt, max_attempts=5_000)
    assert (end.verb, end.error.message) == (Verb.RETRY, "words")
    assert timedelta(0) <= end.delay <= timedelta(seconds=longest)


@pytest.mark.parametrize("attempt", [1, 46, 1_023, 1_024, 1_100, 4_999])
@pytest.mark.parametrize(("least", "most"), [(1, 5), (None, None), (10**400, 10**400), (0, 0)])
def test_dramatiqs_backoff_holds_its_cap_at_any_attempt(attempt, least, most):
    policy = RetryPolicy.from_dramatiq(max_retries=None, min_backoff_ms=least, max_backoff_ms=most)
    end = end_of(ValueError("words"), policy, attempt=attempt, max_attempts=5_000)
    assert end.error.message == "words"
    assert (
        timedelta(0) <= end.delay <= timedelta(days=7 if most is None or most > 10**9 else most / 86_400_000)
    )


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (1_500, timedelta(seconds=1.5)), (0, timedelta(0)), (-5, timedelta(0)), (1e300, LONGEST_DELAY),
        (10**400, LONGEST_DELAY), (float("inf"), LONGEST_DELAY), (None, timedelta(seconds=7)),
    ],
)  # fmt: skip
def test_the_delay_of_dramatiqs_retry_is_bounded(delay, expected):
    end = end_of(dramatiq.errors.Retry("words", delay=delay))
    assert (end.verb, end.delay, end.error.message) == (Verb.RETRY, expected, "words")


@pytest.mark.parametrize("delay", ["x", float("nan"), [1], timedelta(seconds=1), hostile(__le__=exits)])
def test_a_delay_of_dramatiqs_retry_that_is_no_number_is_named_and_the_policy_decides(delay):
    end = end_of(dramatiq.errors.Retry("words", delay=delay))
    assert (end.verb, end.delay) == (Verb.RETRY, timedelta(seconds=7))
    assert end.error.message.startswith("words\n[Callboard: the delay of the exception cannot be used: ")


def bare(kind: type[Outcome], **attributes: Any) -> Outcome:
    """An outcome of a subclass that never called `__init__`."""
    made: Outcome = type("Own", (kind,), {"__init__": lambda *_: None, **attributes})("inner words")
    return made


@pytest.mark.parametrize("delay", [None, 5, "5s", property(exits), float("nan")])
def test_a_snooze_whose_delay_cannot_be_used_is_a_failed_attempt(delay):
    end = end_of(bare(Snooze, delay=delay, reason=""))
    assert (end.verb, end.delay) == (Verb.RETRY, timedelta(seconds=7))
    assert "the delay of the exception cannot be used: " in end.error.message


@pytest.mark.parametrize("kind", [Retry, Fail, Cancel])
def test_an_outcome_that_was_never_initialised_keeps_its_verb(kind):
    end = end_of(bare(kind))
    assert end.verb is {Retry: Verb.RETRY, Fail: Verb.FAIL, Cancel: Verb.STOP}[kind]
    assert end.error.message.startswith("inner words")
    assert end_of(bare(kind, __str__=exits)).verb is end.verb


def test_an_outcome_of_a_long_delay_is_bounded():
    class Longer(timedelta):
        total_seconds = __le__ = __lt__ = fails

    assert end_of(bare(Retry, delay=Longer(seconds=3), reason="")).delay == timedelta(seconds=3)
    assert end_of(bare(Snooze, delay=timedelta.max)).delay < timedelta(days=3_900)
    assert end_of(bare(Retry, delay=timedelta.max, reason="")).delay == LONGEST_DELAY
