"""An outage that lasts is logged when it begins, every 30 seconds, and when it is over."""

import pytest
from structlog.testing import CapturingLogger

from callboard.jobs.errors import Unavailable
from callboard.jobs.outage import Outage


class Clock:
    time = 100.0

    def monotonic(self) -> float:
        return self.time


def logged(log: CapturingLogger) -> list[tuple[str, str, object]]:
    return [(call.method_name, call.args[0], call.kwargs.get("waited")) for call in log.calls]


def test_an_outage_is_logged_at_its_begin_every_30_seconds_and_at_its_end():
    log, clock = CapturingLogger(), Clock()
    outage = Outage(log, "flusher.waiting", "flusher.recovered", clock=clock)
    outage.over()
    for _ in range(6_501):
        outage.failed("connection refused", outcomes=3)
        clock.time += 0.01
    outage.over()
    outage.over()
    assert logged(log) == [
        ("warning", "flusher.waiting", None),
        ("warning", "flusher.waiting", 30.0),
        ("warning", "flusher.waiting", 60.0),
        ("info", "flusher.recovered", 65.0),
    ]
    assert log.calls[0].kwargs == {"reason": "connection refused", "outcomes": 3}
    outage.failed("again")
    assert logged(log)[-1] == ("warning", "flusher.waiting", None)


def test_without_an_event_for_its_end_an_outage_is_over_after_30_quiet_seconds():
    log, clock = CapturingLogger(), Clock()
    outage = Outage(log, "http.unavailable", clock=clock)
    for pause in (20, 20, 31, 1):
        outage.failed("refused")
        clock.time += pause
    outage.failed("refused")
    assert logged(log) == [
        ("warning", "http.unavailable", None),
        ("warning", "http.unavailable", 40.0),
        ("warning", "http.unavailable", None),
    ]


def test_as_a_context_it_ends_its_block_at_an_outage_and_only_there():
    log = CapturingLogger()
    outage = Outage(log, "supervisor.waiting", "supervisor.recovered", clock=Clock(), task="ask")
    with outage:
        raise Unavailable("connection refused")
    with outage:
        pass
    with pytest.raises(ValueError, match="ours"), outage:
        raise ValueError("ours")
    assert logged(log) == [("warning", "supervisor.waiting", None), ("info", "supervisor.recovered", 0.0)]
