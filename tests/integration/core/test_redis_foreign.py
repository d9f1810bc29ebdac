"""Values of other programs in our keys, met by several processes at once."""

import threading
from contextlib import ExitStack, closing

import redis
from structlog.testing import capture_logs

from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.hint import FeedTokens
from callboard.jobs.redis.transport import Transport

PROCESSES = 6
ROUNDS = 30


def test_processes_that_meet_a_foreign_value_at_once_move_it_once_and_never_a_queue(platform, redis_url):
    """Each process moves what it saw, though another one may have made the key a queue since."""
    with ExitStack() as opened, redis.Redis.from_url(redis_url) as cache, capture_logs() as log:
        transports = [opened.enter_context(closing(Transport(redis_url))) for _ in range(PROCESSES)]
        start, done = threading.Barrier(PROCESSES + 1), threading.Barrier(PROCESSES + 1)
        fed: list[int] = []

        def feed(transport: Transport) -> None:
            for number in range(ROUNDS):
                start.wait(60)
                fed.append(transport.feed(f"q{number}", FeedTokens(1, f"0 {new_id()}:0")).new)
                done.wait(60)

        threads = [threading.Thread(target=feed, args=(each,), daemon=True) for each in transports]
        for thread in threads:
            thread.start()
        for number in range(ROUNDS):
            cache.set(f"callboard:queue:q{number}", "mine")
            start.wait(60)
            done.wait(60)
        for thread in threads:
            thread.join(30)
        assert {cache.get(f"callboard:foreign:queue:q{number}:1") for number in range(ROUNDS)} == {b"mine"}
        assert cache.keys("callboard:foreign:queue:*:2") == []
        assert {cache.zcard(f"callboard:queue:q{number}") for number in range(ROUNDS)} == {PROCESSES}
        assert fed == [1] * (PROCESSES * ROUNDS)
    assert [one["event"] for one in log] == ["redis.foreign_key_moved"] * ROUNDS
