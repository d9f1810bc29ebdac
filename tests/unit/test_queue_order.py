"""In what order a worker asks its queues."""

from collections import Counter
from types import SimpleNamespace

import pytest

from callboard.jobs.attempts.worker import ServedQueue
from callboard.workers.execute.attempt import JobKind
from callboard.workers.fetch.job_source import QueueOrder


class Always:
    """Knows these queues; time stands."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def served_queues(self, wanted: list[str]) -> list[ServedQueue]:
        return [ServedQueue(name, name == "limited", name == "keyed", False, False) for name in self._names]

    def monotonic(self) -> float:
        return 0.0


def served(wanted: list[str], there: list[str], busy: set[str], turns: int) -> list[str]:
    """Which queue each pop serves while these are never empty: the first of them in the order asked."""
    knows = Always(*there)
    queues = QueueOrder(knows, wanted, {}, knows)
    order = []
    for _ in range(turns):
        first = next(name for name in queues.in_turn(list(wanted or there)) if name in busy)
        queues.served({first: {JobKind.SYNC: 1}})
        order.append(first)
    return order


def test_listed_queues_are_asked_in_order_of_preference():
    assert served(["mail", "reports"], [], {"reports"}, 20) == ["reports"] * 20
    assert served(["mail", "reports"], [], {"mail", "reports"}, 7) == ["mail"] * 7


def test_every_eighth_pop_goes_to_the_queue_that_was_served_longest_ago():
    order = served(["a", "b", "c"], [], {"a", "b", "c"}, 32)
    assert [order[turn] for turn in (7, 15, 23, 31)] == ["b", "c", "b", "c"]
    assert Counter(order) == {"a": 28, "b": 2, "c": 2}


@pytest.mark.parametrize("last", ["b", "c", "d", "e"])
def test_an_empty_queue_leaves_its_turn_to_one_that_is_not(last):
    assert Counter(served(["a", "b", "c", "d", "e"], [], {"a", last}, 80)) == {"a": 70, last: 10}


def test_a_worker_of_all_queues_serves_those_that_have_jobs_evenly():
    there = ["a", "b", "c", "d", "e", "f"]
    assert Counter(served([], there, {"d", "e"}, 100)) == {"d": 50, "e": 50}
    assert Counter(served([], there, set(there), 60)) == dict.fromkeys(there, 10)


def test_a_queue_without_room_is_left_out_and_the_others_keep_their_order():
    knows = Always()
    queues = QueueOrder(knows, ["a", "b", "c"], {}, knows)
    assert queues.in_turn(["a", "c"]) == ["a", "c"]


class Room:
    """Slots of a child of eight threads."""

    def __init__(self, held: int, *, fast: bool = False) -> None:
        self._held = held
        self._fast = fast

    def free(self, kind: JobKind) -> int:
        return 256 if kind is JobKind.ASYNC else 64 - self._held

    def idle_threads(self) -> int:
        return max(8 - self._held, 0)

    def ends_fast(self, kind: JobKind) -> bool:
        return self._fast


@pytest.mark.parametrize(
    ("held", "rooms"),
    [(0, {"limited": 8, "mail": 64}), (5, {"limited": 3, "mail": 59}), (8, {"mail": 56}), (20, {"mail": 44})],
)
def test_of_a_limited_queue_no_more_is_claimed_than_there_are_idle_threads(held, rooms):
    knows = Always("limited", "mail")
    queues = QueueOrder(knows, [], {}, knows)
    assert queues.with_room(Room(held)) == (rooms, len(rooms) == 2)


@pytest.mark.parametrize(
    ("held", "fast", "room"), [(5, False, 3), (8, False, 0), (8, True, 56), (20, True, 44)]
)
def test_of_a_queue_with_limited_keys_more_is_claimed_while_jobs_are_short(held, fast, room):
    knows = Always("keyed")
    queues = QueueOrder(knows, [], {}, knows)
    assert queues.with_room(Room(held, fast=fast))[0].get("keyed", 0) == room


ASYNC, SYNC = SimpleNamespace(queue="mixed", is_async=True), SimpleNamespace(queue="mixed", is_async=False)


@pytest.mark.parametrize(
    ("claimed", "room"),
    [
        # What is defined may all be of either kind until something has been claimed.
        ([], 40),
        ([(0, 10)], 80),
        ([(0, 10)] * 8, 256),
        ([(10, 0)] * 8, 40),
        ([(5, 5)] * 12, 80),
        ([(0, 10)] * 8 + [(5, 5)], 160),
        ([(1, 3)] * 12, 160),
    ],
)
def test_of_a_mixed_queue_so_much_is_claimed_that_each_kind_probably_has_room(claimed, room):
    knows = Always("mixed")
    queues = QueueOrder(knows, [], {"a": ASYNC, "b": SYNC}, knows)
    for sync, awaited in claimed:
        queues.served({"mixed": {JobKind.SYNC: sync, JobKind.ASYNC: awaited}})
    assert queues.with_room(Room(24))[0]["mixed"] == pytest.approx(room, abs=1)


def test_a_queue_of_unknown_kind_is_found_to_be_async():
    knows = Always("sent_to")
    queues = QueueOrder(knows, [], {}, knows)
    assert queues.with_room(Room(54))[0] == {"sent_to": 10}
    for _ in range(7):
        queues.served({"sent_to": {JobKind.ASYNC: 10}})
    assert queues.with_room(Room(64))[0]["sent_to"] == pytest.approx(256, abs=3)
