"""The Pusher: a single push is made at once, those of a burst together, and none of them is forgotten."""

import os
import threading
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace

import pytest

from callboard.jobs.enqueue import pusher as module
from callboard.jobs.enqueue.pusher import Pusher
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.hint import Offer
from tests.unit.test_batcher import PATIENCE, until

DUE = datetime(2026, 11, 29, tzinfo=UTC)


class Redis:
    """Notes each push with its thread. It can be held up, and it can fail."""

    def __init__(self) -> None:
        self.pushes: list[list[str]] = []
        self.threads: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_away = False

    def offer(self, offers):
        self.threads.append(threading.get_ident())
        assert self.gate.wait(PATIENCE)
        self.pushes.append([token for offer in offers for token in offer.tokens])
        if self.is_away:
            raise Unavailable("away")

    @property
    def tokens(self) -> list[str]:
        return [token for push in self.pushes for token in push]


@pytest.fixture
def clock():
    made = SimpleNamespace(now=100.0)
    made.monotonic = lambda: made.now
    return made


@pytest.fixture
def redis():
    return Redis()


@pytest.fixture
def pusher(redis, clock, monkeypatch):
    monkeypatch.setattr(module, "_BURST", 0.005)
    made = Pusher(redis, clock)
    yield made
    redis.gate.set()
    made.close()


_numbers = count()


def offer(size: int = 1) -> list[Offer]:
    return [Offer("q", 5, DUE, [f"t{next(_numbers)}" for _ in range(size)])]


def push(pusher: Pusher, how_many: int, size: int = 1) -> list[str]:
    """Push so often, and return the tokens."""
    offers = [offer(size) for _ in range(how_many)]
    for one in offers:
        pusher.push(one)
    return [token for [one] in offers for token in one.tokens]


def test_pushes_that_do_not_follow_each_other_closely_are_made_by_their_callers(pusher, redis, clock):
    tokens = []
    for _ in range(5):
        clock.now += 0.006
        tokens += push(pusher, 1)
        assert redis.tokens == tokens
    assert set(redis.threads) == {threading.get_ident()}


def test_pushes_of_a_burst_wait_for_nobody_and_are_made_together(pusher, redis):
    first = push(pusher, 1)
    redis.gate.clear()
    tokens = push(pusher, 200)
    redis.gate.set()
    until(lambda: len(redis.tokens) == 201)
    assert redis.tokens == first + tokens
    assert len(redis.pushes) < 50
    assert len(set(redis.threads)) == 2


def test_many_tokens_are_pushed_at_once_even_in_a_burst(pusher, redis):
    push(pusher, 1)
    push(pusher, 1, size=101)
    assert len(redis.tokens) == 102
    assert set(redis.threads) == {threading.get_ident()}


def test_close_pushes_what_waits_and_ends_the_thread(pusher, redis):
    push(pusher, 1)
    for _ in range(20):
        tokens = push(pusher, 3)
        pusher.close()
        assert set(redis.tokens) >= set(tokens)
        assert not pusher._serving.locked()


def test_a_failed_push_of_a_burst_stops_no_later_one(pusher, redis):
    push(pusher, 1)
    redis.is_away = True
    push(pusher, 5)
    until(lambda: len(redis.tokens) == 6)
    redis.is_away = False
    push(pusher, 5)
    until(lambda: len(redis.tokens) == 11)


def test_without_pushes_the_thread_ends_and_the_next_burst_starts_another(pusher, redis, monkeypatch):
    monkeypatch.setattr(module, "_IDLE", 0.01)
    for round_ in range(1, 4):
        push(pusher, 2)
        until(lambda: not pusher._serving.locked() and pusher._waiting.empty())
        assert len(redis.tokens) == 2 * round_


def test_where_no_thread_can_be_started_a_burst_is_pushed_by_its_caller(pusher, redis, monkeypatch):
    """As at a limit of processes, or while the interpreter ends."""

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "start_new_thread", refuse)
    tokens = push(pusher, 5)
    assert redis.tokens == tokens
    assert set(redis.threads) == {threading.get_ident()}


def test_a_forked_process_pushes_its_own_tokens_only(pusher, redis):
    push(pusher, 1)
    redis.gate.clear()
    push(pusher, 10)
    reads, writes = os.pipe()
    copy = os.fork()
    if not copy:
        redis.gate = threading.Event()
        redis.gate.set()
        redis.pushes.clear()
        own = push(pusher, 3)
        pusher.close()
        os.write(writes, b"own" if sorted(redis.tokens) == sorted(own) else repr(redis.tokens).encode())
        os._exit(0)
    os.waitpid(copy, 0)
    assert os.read(reads, 1000) == b"own"
