"""Slots: how far ahead of its threads a child claims, and how much at once."""

import time
from threading import Thread
from types import SimpleNamespace
from uuid import uuid4

import pytest

from callboard.workers.execute.attempt import JobKind
from callboard.workers.fetch.slots import Slots


class Clock:
    """Stands until it is told to go."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


def slots_of(slots: int = 256, async_slots: int = 256, threads: int = 8, clock: Clock | None = None) -> Slots:
    return Slots(slots, async_slots, threads, clock or Clock())


def held(*, kind: JobKind = JobKind.SYNC, waited: float | None = 0.0, size: int = 4):
    """An attempt that waited so long to begin (None: it never did), with so many bytes of arguments."""
    return SimpleNamespace(
        job=SimpleNamespace(id=uuid4(), args_json="[]", kwargs_json=" " * (size - 2)), kind=kind, claimed_at=100.0,
        began_at=None if waited is None else 100.0 + waited, written=lambda: None,
    )  # fmt: skip


def claim(slots: Slots, batch: list) -> list:
    for attempt in batch:
        slots.take(attempt)
    slots.claim_taken([attempt.job for attempt in batch])
    return batch


def fill(slots: Slots, *, waited: float | None = 0.0, kind: JobKind = JobKind.SYNC, size: int = 4) -> list:
    """Claim until no more is worth claiming; returns what was claimed."""
    taken = []
    while free := slots.free(kind):
        taken += claim(slots, [held(waited=waited, kind=kind, size=size) for _ in range(free)])
    return taken


def test_it_begins_with_as_many_ahead_as_there_are_threads():
    assert len(fill(slots_of(256, 256, 8))) == 16


def test_short_jobs_are_claimed_by_the_hundred_within_a_few_rounds():
    slots = slots_of(256, 256, 8)
    sizes = []
    for _ in range(7):
        taken = fill(slots, waited=0.001)
        sizes.append(len(taken))
        slots.release(taken)
    assert sizes == [16, 24, 40, 72, 136, 256, 256]


def test_of_long_jobs_hardly_any_waits_for_a_thread():
    slots = slots_of(256, 256, 8)
    for _ in range(5):
        slots.release(fill(slots, waited=5.0))
    assert len(fill(slots)) == 8


def test_it_finds_its_way_back_from_long_jobs_to_short_ones():
    slots = slots_of(64, 256, 8)
    for waited in (5.0,) * 5 + (0.001,) * 9:
        slots.release(fill(slots, waited=waited))
    assert len(fill(slots)) == 64


def test_what_was_never_held_in_full_says_nothing_about_more():
    slots = slots_of(256, 256, 8)
    for _ in range(9):
        slots.release(claim(slots, [held(waited=0.001) for _ in range(3)]))
    assert len(fill(slots)) == 16


@pytest.mark.parametrize(("slots", "threads", "claimed"), [(256, 8, 128), (6, 2, 3), (1, 1, 1), (4, 8, 4)])
def test_no_claim_takes_more_than_half_unless_threads_are_idle(slots, threads, claimed):
    made = slots_of(slots, 256, threads)
    for _ in range(9):
        made.release(fill(made, waited=0.001))
    assert made.free(JobKind.SYNC) == claimed


def test_a_freed_thread_is_worth_a_claim_at_once():
    slots = slots_of(256, 256, 8)
    for _ in range(5):
        slots.release(fill(slots, waited=5.0))
    first, *_ = fill(slots, waited=5.0)
    assert slots.free(JobKind.SYNC) == 0
    slots.release([first])
    assert slots.free(JobKind.SYNC) == 1


def test_async_jobs_are_claimed_ahead_of_those_that_run_by_the_same_rule():
    slots = slots_of(1024, 100, 8)
    sizes = []
    for _ in range(5):
        taken = fill(slots, waited=0.001, kind=JobKind.ASYNC)
        sizes.append(len(taken))
        slots.release(taken)
    assert sizes == [200, 300, 500, 900, 1024]
    for _ in range(12):
        slots.release(fill(slots, waited=5.0, kind=JobKind.ASYNC))
    assert len(fill(slots, kind=JobKind.ASYNC)) == 100
    assert slots.idle_threads() == 8


def test_as_many_async_jobs_run_at_once_as_there_are_async_slots_however_few_the_others_are():
    assert len(fill(slots_of(1, 256, 8), kind=JobKind.ASYNC)) == 256


def test_what_was_learned_is_forgotten_when_nothing_was_there_for_a_while():
    clock = Clock()
    slots = slots_of(clock=clock)
    for _ in range(9):
        slots.release(fill(slots, waited=0.001))
    clock.seconds += 0.9
    assert slots.free(JobKind.SYNC) == 128
    clock.seconds += 0.2
    assert slots.free(JobKind.SYNC) == 8
    many = fill(slots, waited=0.001)
    clock.seconds += 60
    assert len(many) == 16
    assert slots.free(JobKind.SYNC) == 0


@pytest.mark.parametrize(("size", "kept"), [(16 * 1024, 1024), (64 * 1024, 256), (2 * 1024 * 1024, 8)])
def test_of_jobs_with_large_arguments_no_more_is_held_than_sixteen_mebibytes_or_than_run(size, kept):
    slots = slots_of(1024)
    for _ in range(12):
        slots.release(fill(slots, waited=0.001))
    slots.release(claim(slots, [held(waited=0.001, size=size)]))
    assert len(fill(slots, size=size)) == kept


def test_few_sync_attempts_too_many_are_none():
    slots = slots_of()
    claim(slots, [held() for _ in range(24)])
    assert slots.surplus() == 0
    claim(slots, [held() for _ in range(40)])
    assert slots.surplus() == 40
    claim(slots, [held(kind=JobKind.ASYNC) for _ in range(400)])
    assert slots.surplus() == 40


def test_who_waits_for_a_release_waits_although_slots_are_free():
    slots = slots_of()
    [attempt] = claim(slots, [held()])
    before, ended = slots.releases, []
    waiter = Thread(target=lambda: (slots.wait_release(before, 5.0), ended.append(slots.count())))
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive()
    assert slots.free(JobKind.SYNC) > 0
    slots.release([attempt])
    waiter.join(5.0)
    assert ended == [0]


def test_a_release_before_the_wait_is_not_missed():
    slots = slots_of()
    [attempt] = claim(slots, [held()])
    before = slots.releases
    slots.release([attempt])
    began = time.monotonic()
    slots.wait_release(before, 5.0)
    assert time.monotonic() - began < 4.0


@pytest.mark.parametrize(("seconds", "room"), [(0.05, 16), (1.0, 8)])
def test_there_is_room_for_more_limited_jobs_than_can_start_only_while_they_are_short(seconds, room):
    clock = Clock()
    slots = slots_of(256, 256, 8, clock)
    first, *rest = claim(slots, [held() for _ in range(8)])
    clock.seconds += seconds
    slots.release([first])
    assert slots.ends_fast(JobKind.SYNC) is (room > 8)
    assert slots.room_without(rest) == room
    assert slots.room_without(rest[:2]) == room - 5
    assert slots.room_without([]) == 0
