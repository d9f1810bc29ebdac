"""Slots: how far ahead of its threads a child claims, and how much at once."""

from types import SimpleNamespace
from uuid import uuid4

import pytest

from workers.slots import Slots


def held(*, is_async: bool = False, waited: float | None = 0.0):
    """An attempt that waited so long for its thread; None: it never began."""
    return SimpleNamespace(
        job=SimpleNamespace(id=uuid4()), definition=SimpleNamespace(is_async=is_async), claimed_at=100.0,
        began_at=None if waited is None else 100.0 + waited,
    )  # fmt: skip


def fill(slots: Slots, *, waited: float | None = 0.0) -> list:
    """Claim until no more is worth claiming; returns what was claimed."""
    taken = []
    while slots.worth_filling(is_async=False):
        batch = [held(waited=waited) for _ in range(slots.free(is_async=False))]
        for attempt in batch:
            slots.take(attempt)
        slots.taken()
        taken += batch
    return taken


def test_it_begins_with_as_many_ahead_as_there_are_threads():
    assert len(fill(Slots(256, 256, 8))) == 16


def test_short_jobs_are_claimed_by_the_hundred_within_a_few_rounds():
    slots = Slots(256, 256, 8)
    sizes = []
    for _ in range(7):
        taken = fill(slots, waited=0.001)
        sizes.append(len(taken))
        slots.release(taken)
    assert sizes == [16, 24, 40, 72, 136, 256, 256]


def test_of_long_jobs_hardly_any_waits_for_a_thread():
    slots = Slots(256, 256, 8)
    for _ in range(5):
        slots.release(fill(slots, waited=5.0))
    assert len(fill(slots)) == 8


def test_it_finds_its_way_back_from_long_jobs_to_short_ones():
    slots = Slots(64, 256, 8)
    for waited in (5.0,) * 5 + (0.001,) * 9:
        slots.release(fill(slots, waited=waited))
    assert len(fill(slots)) == 64


def test_what_was_never_held_in_full_says_nothing_about_more():
    slots = Slots(256, 256, 8)
    for _ in range(9):
        few = [held(waited=0.001) for _ in range(3)]
        for attempt in few:
            slots.take(attempt)
        slots.taken()
        slots.release(few)
    assert len(fill(slots)) == 16


@pytest.mark.parametrize(("slots", "threads", "claimed"), [(256, 8, 128), (6, 2, 3), (1, 1, 1), (4, 8, 4)])
def test_no_claim_takes_more_than_half_unless_threads_are_idle(slots, threads, claimed):
    made = Slots(slots, 256, threads)
    for _ in range(9):
        made.release(fill(made, waited=0.001))
    assert made.free(is_async=False) == claimed


def test_a_freed_thread_is_worth_a_claim_at_once():
    slots = Slots(256, 256, 8)
    for _ in range(5):
        slots.release(fill(slots, waited=5.0))
    first, *_ = fill(slots, waited=5.0)
    assert not slots.worth_filling(is_async=False)
    slots.release([first])
    assert slots.worth_filling(is_async=False)
    assert slots.free(is_async=False) == 1


def test_async_slots_are_what_they_are():
    slots = Slots(256, 40, 8)
    few = [held(is_async=True, waited=None) for _ in range(3)]
    for attempt in few:
        slots.take(attempt)
    slots.release(few)
    assert (slots.free(is_async=True), slots.count()) == (20, 0)
