"""Who holds the event loop: the deadlines of the jobs that wait are moved, those of the holder stay."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

from prometheus_client import REGISTRY

from callboard.jobs.attempts.worker import HoldKind
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.workers.fetch.slots import Slots
from callboard.workers.report.hold_watch import HoldWatch
from tests.unit.attempts import attempt_of, loop_stage, until


async def naps() -> None:
    await asyncio.sleep(0.2)


async def holds() -> None:
    time.sleep(1.0)  # noqa: ASYNC251 - this is what it is for


def holds_total(kind: str) -> float:
    return REGISTRY.get_sample_value("callboard_worker_holds_total", {"kind": kind}) or 0.0


def test_the_holder_is_named_and_stored_and_the_deadlines_of_others_are_moved():
    slots, told, stored, before = Slots(64, 64, 8, SYSTEM), [], [], holds_total("loop")
    reports: Any = SimpleNamespace(hold=stored.append)
    with loop_stage() as stage:
        watch = HoldWatch(stage.runner, list, slots, stage.board, reports)
        beside, holder = attempt_of(naps), attempt_of(holds)
        for attempt in (beside, holder):
            slots.take(attempt)
        stage.runner.submit([beside])
        until(lambda: beside.interrupt is not None)
        stage.runner.submit([holder])
        until(lambda: holder.interrupt is not None)
        deadlines = beside.deadline, holder.deadline
        # The watch's own time: it is asked and does not answer for two seconds.
        watch.look(1_000.0)
        watch.look(1_000.9)
        assert holds_total("loop") == before
        watch.look(1_002.0)
        watch.store(1_002.0)
        told.append(holds_total("loop"))
        assert beside.deadline is not None
        assert deadlines[0] is not None
        assert round(beside.deadline - deadlines[0], 3) == 2.0
        assert holder.deadline == deadlines[1]
        until(lambda: holder in stage.done)
        until(lambda: beside in stage.done)
        watch.look(1_003.0)
        watch.store(1_003.0)
    assert told == [before + 1]
    assert [(one.kind, one.job_id, one.seconds) if one else None for one in stored] == [
        (HoldKind.LOOP, holder.job.id, 2.0), None,
    ]  # fmt: skip


def test_a_pause_of_all_threads_is_a_hold_of_the_interpreter_by_the_only_job_that_ran():
    slots, before = Slots(64, 64, 8, SYSTEM), holds_total("interpreter")
    reports: Any = SimpleNamespace(hold=lambda _: None)
    with loop_stage() as stage:
        watch = HoldWatch(stage.runner, list, slots, stage.board, reports)
        job = attempt_of(lambda: None)
        job.began_at, job.deadline = 1_000.0, 1_005.0
        slots.take(job)
        watch.look(1_000.0)
        watch.look(1_001.5)
        assert holds_total("interpreter") == before
        watch.look(1_010.0)
        assert holds_total("interpreter") == before + 1
        # It is the holder: its deadline stays.
        assert job.deadline == 1_005.0
