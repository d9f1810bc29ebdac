"""An event loop that waits and does not answer is dead; one that answers, or that a job holds, is not."""

from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.silent_loop import SilentLoop
from tests.unit.attempts import until

LOOKS = 60


@pytest.mark.parametrize(
    ("asked_at", "waits", "dead"),
    [
        ([1.0] * LOOKS, "waits", True),
        ([None] * LOOKS, "waits", False),
        (list(map(float, range(LOOKS))), "waits", False),
        ([1.0] * LOOKS, "", False),
    ],
)
def test_a_loop_is_dead_when_it_waits_and_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, asked_at: list[float | None], waits: str, *, dead: bool
) -> None:
    runner = SimpleNamespace(asked_at=None, ident=None)
    monkeypatch.setattr(SilentLoop, "_waits", lambda _: bool(waits))
    silent = SilentLoop(cast("Any", runner))
    answers = []
    for asked in asked_at:
        runner.asked_at = asked
        answers.append(silent.is_dead())
    assert (answers[0], answers[-1]) == (False, dead)


def test_a_loop_waits_when_no_code_runs_on_it() -> None:
    nothing: Any = lambda *_: None  # noqa: E731
    runner = AsyncRunner(1, nothing, Event(), nothing, nothing)
    runner.start()
    silent, held, end = SilentLoop(runner), Event(), Event()
    until(silent._waits)
    runner._loop.call_soon_threadsafe(lambda: (held.set(), end.wait(60)))
    assert held.wait(60)
    assert not silent._waits()
    end.set()
    until(silent._waits)
    runner._stopping = True
    runner._loop.call_soon_threadsafe(runner._loop.end)
    runner.join(10)
    assert not runner.failed
