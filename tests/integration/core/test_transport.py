"""The queues in Redis: tokens are ordered, unique and bounded, and every failure is Unavailable."""

from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.hint import FeedTokens, Hint, token
from callboard.jobs.redis.queue_tokens import read_token
from callboard.jobs.redis.transport import WAKE, WINDOW, Transport
from tests.integration.core.factories import NOWHERE, enqueue, execution, until

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
#: The largest epoch that a row can have.
LARGEST = 2**31 - 1


def hint(priority=5, seconds=0.0, queue="q", epoch=0):
    return Hint(new_id(), epoch, queue, priority, NOON + timedelta(seconds=seconds))


def member(one):
    return token(one.id, one.epoch).encode()


@pytest.fixture
def transport(platform, redis_url):
    """A transport for one test. After a failure it makes no calls for a while, so tests do not share it."""
    with closing(Transport(redis_url)) as made:
        yield made


@pytest.fixture
def cache(platform, redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_tokens_come_most_urgent_first_and_a_step_of_priority_is_worth_ten_minutes(transport):
    ordered = [
        hint(0, 0),
        hint(9, -5390),
        hint(0, 20),
        hint(1, -100),
        hint(5, 0),
        hint(5, 0.001),
        hint(5, 1),
        hint(0, 3600),
    ]
    assert transport.push(ordered[::-1]) == len(ordered)
    assert transport.pop(["q"], 3, 0.1) == [member(one) for one in ordered[:3]]
    assert transport.pop(["q"], 99, 0.1) == [member(one) for one in ordered[3:]]


def test_a_token_that_is_there_is_not_new_and_keeps_its_place(transport):
    first, second = hint(1), hint(2)
    assert transport.push([first, second]) == 2
    moved = Hint(first.id, first.epoch, "q", 9, first.run_at)
    assert transport.push([moved, second]) == 0
    assert transport.feed("q", FeedTokens(1, f"0 {first.id}:{first.epoch}")).new == 0
    assert transport.pop(["q"], 1, 0.1) == [member(first)]


def test_another_epoch_is_another_token(transport):
    one = hint()
    assert transport.push([one, Hint(one.id, 1, "q", 5, one.run_at)]) == 2


def test_each_queue_has_its_own_set(transport):
    assert transport.push([hint(queue="a"), hint(queue="b"), hint(queue="a")]) == 3
    assert (transport.depth("a"), transport.depth("b"), transport.depth("c")) == (2, 1, 0)
    transport.forget("a")
    assert (transport.depth("a"), transport.depth("b")) == (0, 1)


def test_the_first_queue_that_has_any_is_served(transport):
    a, b = hint(9, queue="a"), hint(0, queue="b")
    transport.push([a, b])
    assert transport.pop(["none", "a", "b"], 5, 0.1) == [member(a)]
    assert transport.pop(["none", "a", "b"], 5, 0.1) == [member(b)]
    assert transport.pop(["none", "a", "b"], 5, 0.01) == []


def test_each_queue_gives_no_more_than_what_is_taken_of_it(transport):
    worker = new_id()
    many = [hint(number, queue="a") for number in range(5)]
    other = [hint(number, queue="b") for number in range(3)]
    transport.push([*many, *other])
    assert transport.take(["none", "a", "b"], [9, 2, 3], worker=worker) == [member(one) for one in many[:2]]
    assert transport.take(["b", "a"], [9, 9], worker=worker) == [member(one) for one in other]
    assert transport.take(["b", "a"], [9, 0], worker=worker) == []
    transport.wake([worker])
    assert transport.take(["a"], [9], worker=worker) == [WAKE]
    assert transport.take(["a"], [9], worker=worker) == [member(one) for one in many[2:]]


def test_producers_stop_at_the_window_and_the_feeder_does_not(transport):
    assert transport.push([hint() for _ in range(WINDOW + 700)]) == WINDOW
    assert transport.push([hint()]) == 0
    assert transport.depth("q") == WINDOW
    assert transport.feed("q", FeedTokens(1, f"0 {new_id()}:0")) == (1, WINDOW + 1)
    assert transport.push([]) == 0


def test_platforms_with_different_prefixes_share_a_redis(transport, redis_url):
    with closing(Transport(redis_url, prefix="other")) as other:
        other.push([hint()])
        assert (other.depth("q"), transport.depth("q")) == (1, 0)


# ---- what comes out of Redis may be anything ----


@given(st.one_of(
    st.binary(max_size=80),
    st.builds(lambda tail: f"{new_id()}:".encode() + tail, st.binary(max_size=20)),
    st.builds(lambda epoch: f"{new_id()}:{epoch}".encode(), st.integers()),
))  # fmt: skip
def test_whatever_is_read_as_a_token_can_be_claimed_with_and_reading_never_fails(raw):
    found = read_token(raw)
    if found is not None:
        job, epoch = found
        assert len(job) == 36
        assert 0 <= epoch <= LARGEST


@given(st.uuids(), st.integers(0, LARGEST))
def test_what_was_written_is_read_as_it_was(job, epoch):
    assert read_token(token(job, epoch).encode()) == (str(job), epoch)


def test_members_that_are_no_tokens_do_not_hold_up_those_that_are(platform, transport, cache):
    (job,) = enqueue(platform)
    strange = [b"", b":", b"\xff\xfe", f"{job}".encode(), f"{job}:".encode(), f"{job}:9999999999".encode(),
               f"{job}:-1".encode(), f"{{{job}}}:0".encode()]  # fmt: skip
    cache.zadd(transport.queue_key("reports"), dict.fromkeys(strange, 0.0))
    raw = transport.pop(["reports"], 99, 0.1)
    assert len(raw) == len(strange) + 1
    with execution(platform) as worker:
        tokens = [found for one in raw if (found := read_token(one))]
        assert [taken.id for taken in worker.claim(tokens)] == [job]


# ---- announcements ----


def test_an_announcement_reaches_who_listens(platform, redis_url, cache):
    jobs = {new_id() for _ in range(3)}
    # Channels are shared by all databases of a server, and so by all who test on it.
    with (
        closing(Transport(redis_url, prefix=str(new_id()))) as transport,
        closing(transport.announcements()) as ear,
    ):
        transport.announce([])
        transport.announce(list(jobs))
        assert until(lambda: ear.next(1.0)) == jobs
        for noise in (b"", b"\xff", b"not,ids"):
            cache.publish(transport.finished_channel, noise)
            assert ear.next(0.5) == set()
        transport.announce(list(jobs))
        assert until(lambda: ear.next(1.0)) == jobs


# ---- every failure is Unavailable ----

CALLS = {
    "push": lambda transport: transport.push([hint()]),
    "feed": lambda transport: transport.feed("q", FeedTokens(1, f"0 {new_id()}:0")),
    "pop": lambda transport: transport.pop(["q"], 1, 0.01),
    "take": lambda transport: transport.take(["q"], [1], worker=new_id()),
    "depth": lambda transport: transport.depth("q"),
    "forget": lambda transport: transport.forget("q"),
    "announce": lambda transport: transport.announce([new_id()]),
    "announcements": lambda transport: transport.announcements(),
    "check": lambda transport: transport.check(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "url", [NOWHERE, "unix:///nowhere/valkey.sock", "redis://name.invalid:6379/0", "rediss://127.0.0.1:1/0"]
)
def test_a_redis_that_is_not_there_is_unavailable(call, url):
    with closing(Transport(url)) as lost, pytest.raises(Unavailable, match="Redis does not answer"):
        CALLS[call](lost)


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.OutOfMemoryError("OOM command not allowed when used memory > 'maxmemory'."),
        redis.exceptions.ReadOnlyError("READONLY You can't write against a read only replica."),
        redis.exceptions.BusyLoadingError("LOADING Redis is loading the dataset in memory"),
        redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        redis.exceptions.NoScriptError("NOSCRIPT"),
        redis.exceptions.AuthenticationError("NOAUTH"),
        redis.exceptions.TimeoutError("Timeout reading from socket"),
        redis.exceptions.ConnectionError("Connection reset by peer"),
        BrokenPipeError(32, "Broken pipe"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("call", [name for name in CALLS if name != "announcements"])
def test_whatever_redis_answers_instead_is_unavailable(transport, monkeypatch, call, error):
    def refuse(connection, *args, **options):
        # as the real one does, so that no answer is left lying for the next command
        connection.disconnect()
        raise error

    monkeypatch.setattr(redis.connection.AbstractConnection, "read_response", refuse)
    monkeypatch.setattr(redis.connection.AbstractConnection, "can_read", lambda *args, **options: False)
    with pytest.raises(Unavailable):
        CALLS[call](transport)
    monkeypatch.undo()
    transport.check()


@pytest.mark.parametrize("call", ["push", "feed", "pop", "take", "depth"])
def test_a_value_of_another_type_in_the_queues_place_is_moved_aside_and_kept(transport, cache, call):
    cache.set(transport.queue_key("q"), "mine")
    with capture_logs() as told:
        CALLS[call](transport)
        CALLS[call](transport)
    assert cache.get("callboard:foreign:queue:q:1") == b"mine"
    assert [one["event"] for one in told] == ["redis.foreign_key_moved"]
    assert cache.type(transport.queue_key("q")) in {b"zset", b"none"}


@pytest.mark.parametrize("kind", ["string", "list", "set", "hash", "stream"])
def test_a_value_of_any_other_type_is_moved_aside(transport, cache, kind):
    write = {
        "string": lambda key: cache.set(key, "mine", ex=1000),
        "list": lambda key: cache.rpush(key, "mine"),
        "set": lambda key: cache.sadd(key, "mine"),
        "hash": lambda key: cache.hset(key, "mine", "1"),
        "stream": lambda key: cache.xadd(key, {"mine": "1"}),
    }[kind]
    write(transport.queue_key("q"))
    assert transport.push([hint()]) == 1
    assert cache.type("callboard:foreign:queue:q:1").decode() == kind


def test_a_foreign_value_in_a_wake_key_neither_expires_nor_keeps_others_asleep(transport, cache):
    first, second = new_id(), new_id()
    cache.set(transport.wake_key(first), "mine")
    transport.wake([second, first])
    assert transport.pop(["q"], 1, 0, worker=first) == transport.pop(["q"], 1, 0, worker=second) == [WAKE]
    assert cache.get(f"callboard:foreign:wake:{first}:1") == b"mine"
    assert cache.ttl(f"callboard:foreign:wake:{first}:1") == -1


def test_a_foreign_value_in_the_place_of_the_check_stays_and_a_purge_deletes_none(transport, cache):
    cache.set("callboard:check", "mine")
    transport.check()
    cache.set(transport.queue_key("q"), "mine")
    with suppress(Unavailable):
        transport.forget("q")
    assert cache.get("callboard:check") == cache.get(transport.queue_key("q")) == b"mine"


def test_a_program_that_goes_on_writing_a_key_is_left_alone_and_named_once(transport, cache):
    with capture_logs() as told:
        for number in range(9):
            cache.set(transport.queue_key("q"), str(number))
            assert transport.depth("q") == 0
        cache.set(transport.queue_key("q"), "mine")
        for _ in range(3):
            with pytest.raises(Unavailable, match="WRONGTYPE"):
                transport.push([hint()])
    assert cache.get(transport.queue_key("q")) == b"mine"
    assert cache.get("callboard:foreign:queue:q:9") == b"8"
    assert [one["event"] for one in told][9:] == ["redis.foreign_key_left"]


def test_a_foreign_value_in_the_place_of_the_owners_is_moved_aside(transport, cache):
    cache.set("callboard:owners", "mine")
    assert transport.owners.mark("1:2:3:shop") == []
    assert cache.get("callboard:foreign:owners:1") == b"mine"


def test_installations_that_use_the_same_keys_are_told_of_each_other_and_others_are_not(transport, redis_url):
    assert transport.owners.mark("1:2:3:shop") == []
    with closing(Transport(redis_url, prefix="other")) as other:
        assert other.owners.mark("1:2:4:mail") == []
    with closing(Transport(redis_url)) as same:
        assert same.owners.mark("1:2:3:shop") == []
        assert same.owners.mark("1:9:4:mail") == ["1:2:3:shop"]
    assert transport.owners.mark("1:2:3:shop") == ["1:9:4:mail"]


def test_each_database_of_one_server_has_its_own_channel(redis_url):
    base = redis_url.partition("?")[0]
    with closing(Transport(f"{base}?db=0")) as zero, closing(Transport(f"{base}?db=7")) as seven:
        assert zero.finished_channel == "callboard:finished"
        assert seven.finished_channel == "callboard:finished:7"
