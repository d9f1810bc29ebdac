"""Enqueue: what is refused and how it says so, what is committed, what happens to those who come at once."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import redis

from callboard.jobs.client import Client
from callboard.jobs.errors import CallboardError, Conflict, InvalidArguments, InvalidInput, UnknownJob
from callboard.jobs.model.new_job import ARGUMENTS_LIMIT
from callboard.jobs.model.request import job_request
from callboard.jobs.platform import Platform
from tests.integration.core.factories import (  # fmt: skip
    NOWHERE,
    PYTHON,
    at_once,
    count,
    enqueue_all,
    enqueue_one,
    publish,
    run_sql,
    states,
    without_redis,
)

REPORT = {"name": "build_report", "kwargs": {"account_id": 7}}


@pytest.fixture
def client(platform):
    publish(platform)
    return Client.over(platform)


def tokens(platform, redis_url, queue="reports"):
    with redis.Redis.from_url(redis_url) as cache:
        return {member.decode() for member in cache.zrange(platform.transport.queue_key(queue), 0, -1)}


def test_an_accepted_job_is_committed_with_its_types_defaults_and_pushed(client, platform, redis_url):
    job = client.enqueue("build_report", {"account_id": 7}, tags=["a", "b", "a"])
    assert (job.state, job.queue, job.priority, job.max_attempts) == ("queued", "reports", 2, 7)
    assert (job.timeout, job.tags, job.source, job.attempt) == (
        timedelta(minutes=10),
        ["a", "b"],
        "python",
        0,
    )
    assert job.run_at == job.enqueued_at
    assert tokens(platform, redis_url) == {f"{job.id}:0"}
    assert [queue.name for queue in platform.queues.every()] == ["hooks", "reports"]


def test_what_the_caller_says_goes_before_the_types_defaults_even_when_it_is_zero(client):
    options = {"priority": 0, "max_attempts": 1, "queue": "other", "timeout": "5s"}
    job = client.enqueue("build_report", {"account_id": 7}, **options)
    assert (job.priority, job.max_attempts, job.queue, job.timeout) == (0, 1, "other", timedelta(seconds=5))


@pytest.mark.parametrize(("name", "hint"), [("bild_report", "'build_report'"), ("zzz", "is a worker")])
def test_an_unknown_job_is_refused_with_the_nearest_name(client, platform, name, hint):
    with pytest.raises(UnknownJob, match=hint):
        client.enqueue(name)
    assert count(platform) == 0
    job = client.enqueue(name, {"any": 1}, unchecked=True)
    assert (job.queue, job.priority, job.max_attempts) == ("default", 5, 10)


@pytest.mark.parametrize(
    ("kwargs", "field"),
    [
        ({}, "kwargs.account_id"),
        ({"account_id": "seven"}, "kwargs.account_id"),
        ({"account_id": 7, "month": 10}, "kwargs.month"),
        ({"account_id": 7, "year": 2026}, "kwargs.year"),
    ],
)
def test_arguments_that_do_not_fit_name_the_field(client, platform, kwargs, field):
    with pytest.raises(InvalidArguments) as refusal:
        client.enqueue("build_report", kwargs)
    assert list(refusal.value.fields) == [field]
    assert field in refusal.value.message
    assert count(platform) == 0


def test_a_batch_with_one_wrong_job_names_its_place_and_writes_nothing(client, platform):
    good, bad = job_request(REPORT), job_request({**REPORT, "kwargs": {"account_id": "x"}})
    with pytest.raises(InvalidArguments, match=r"^jobs\[2\]: ") as refusal:
        enqueue_all(platform, [good, good, bad, good], PYTHON)
    assert list(refusal.value.fields) == ["jobs[2].kwargs.account_id"]
    with pytest.raises(UnknownJob, match=r"^jobs\[1\]: ") as unknown:
        enqueue_all(platform, [good, job_request({"name": "nope"})], PYTHON)
    assert list(unknown.value.fields) == ["jobs[1].name"]
    assert count(platform) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 10}, {"priority": "2"}, {"delay": "soon"}, {"delay": "-1s"}, {"delay": "9999d"}, {"max_attempts": 0},
        {"delay": "1h", "run_at": "2030-01-01T00:00:00Z"}, {"run_at": "2030-01-01T00:00:00"}, {"timeout": "0s"},
        {"queue": ""}, {"queue": "a b"}, {"queue": "q\0"}, {"unique_key": ""}, {"unique_key": "k" * 201},
        {"unique_key": "a\0b"}, {"tags": ["\0"]}, {"tags": ["t"] * 21}, {"on_conflict": "explode"}, {"colour": "red"},
        {"unique_key": "\ud800"},
    ],
    ids=str,
)  # fmt: skip
def test_an_option_that_does_not_fit_is_invalid_input_that_names_it(client, platform, options):
    with pytest.raises(InvalidInput) as refusal:
        client.enqueue("build_report", {"account_id": 7}, **options)
    assert refusal.value.fields
    assert count(platform) == 0


@pytest.mark.parametrize(
    "value",
    ["a\0b", {"k\0": 1}, ["x", {"y": "\0"}], "\ud800", float("nan"), float("inf"), 2**1024, {1: "a"}, object(),
     "x" * (ARGUMENTS_LIMIT + 1)],

)  # fmt: skip
@pytest.mark.parametrize("place", ["args", "kwargs"])
def test_values_that_cannot_be_stored_are_invalid_input(client, platform, value, place):
    given = {"args": [value]} if place == "args" else {"kwargs": {"value": value}}
    with pytest.raises(InvalidInput) as refusal:
        enqueue_one(platform, job_request({"name": "anything", "unchecked": True, **given}), PYTHON)
    assert len(refusal.value.message) < 300
    assert count(platform) == 0


def test_values_at_the_bounds_come_back_as_they_went_in(client):
    largest = "é" * ((ARGUMENTS_LIMIT - 700) // 2)
    kwargs = {
        "": largest,
        "n": [None, True, -(2**63) - 1, 2**64, 10**308, 1.5e300, "\u2028\U0001f600\\u0000"],
    }
    assert client.enqueue("anything", kwargs, unchecked=True, queue="q" * 100).kwargs == kwargs


def test_a_job_that_is_due_later_is_scheduled_and_not_pushed(client, platform, redis_url):
    delayed = client.enqueue("build_report", {"account_id": 7}, delay="1h")
    assert delayed.state == "scheduled"
    assert delayed.run_at - delayed.enqueued_at == timedelta(hours=1)
    at = datetime(2999, 1, 1, tzinfo=UTC)
    dated = client.enqueue("build_report", {"account_id": 7}, run_at=at)
    assert (dated.state, dated.run_at) == ("scheduled", at)
    past = client.enqueue("build_report", {"account_id": 7}, run_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert past.state == "queued"
    assert tokens(platform, redis_url) == {f"{past.id}:0"}


def test_thousands_of_jobs_are_accepted_in_order_and_all_or_none(client, platform):
    ids = client.enqueue_many("build_report", [{"account_id": number} for number in range(5_000)])
    assert len(set(ids)) == 5_000
    assert ids == sorted(ids)
    assert [job.kwargs["account_id"] for job in platform.jobs.get_many(ids)] == list(range(5_000))
    with pytest.raises(InvalidArguments, match=r"jobs\[4999\]"):
        client.enqueue_many("build_report", [{"account_id": 1}] * 4_999 + [{}])
    assert count(platform) == 5_000
    assert client.enqueue_many("build_report", []) == []


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ([{"account_id": 1}, {"account_id": "x"}], r"jobs\[1\]: kwargs.account_id"),
        ([{"account_id": 1}, ["account_id"]], "kwargs"),
        ([{"account_id": 1}, {1: 2}], "kwargs"),
        ([{"account": 1}, {"account_id": 1}], r"jobs\[0\]"),
        (["x", {"account_id": 1}], "kwargs"),
        ([{"account_id": 1}, {"account_id": 2, "note": "a\x00b"}], r"jobs\[1\]"),
        ([{"account_id": 1}, {"account_id": 2, "note": object()}], r"jobs\[1\]"),
    ],
)
def test_of_many_the_one_that_is_wrong_is_named_and_none_is_accepted(client, platform, kwargs, told):
    with pytest.raises(InvalidInput, match=told):
        client.enqueue_many("build_report", kwargs)
    assert count(platform) == 0


def test_many_have_what_the_options_say_and_each_its_own_id(client, platform):
    options = {"tags": ["t"], "priority": 3, "delay": "1h", "unique_key": "all"}
    many = [{"account_id": number} for number in range(3)]
    assert len(set(client.enqueue_many("build_report", many, **options))) == 1
    ids = client.enqueue_many("build_report", iter(many), **(options | {"unique_key": None}))
    jobs = platform.jobs.get_many(ids)
    assert [job.kwargs for job in jobs] == many
    assert {(job.state, tuple(job.tags), job.priority, job.queue) for job in jobs} == {
        ("scheduled", ("t",), 3, "reports")
    }
    assert len({job.run_at for job in jobs}) == 1


def test_a_unique_key_that_is_held_answers_with_its_holder(client, platform):
    first = client.enqueue("build_report", {"account_id": 7}, unique_key="r-7", delay="1h")
    again = client.enqueue("build_report", {"account_id": 8}, unique_key="r-7")
    assert (again.id, again.kwargs, again.state) == (first.id, {"account_id": 7}, "scheduled")
    with pytest.raises(Conflict, match=f"held by job {first.id}"):
        client.enqueue("build_report", {"account_id": 7}, unique_key="r-7", on_conflict="reject")
    assert count(platform) == 1
    client.cancel(first.id)
    assert client.enqueue("build_report", {"account_id": 7}, unique_key="r-7").id != first.id


def test_a_key_twice_in_one_batch_is_one_job(client, platform):
    requests = [job_request({**REPORT, "unique_key": key}) for key in ("a", "b", "a", "b", "c")]
    ids = [receipt.id for receipt in enqueue_all(platform, requests, PYTHON)]
    assert ids[:2] == ids[2:4]
    assert count(platform) == 3
    with pytest.raises(Conflict):
        enqueue_all(
            platform,
            [job_request(REPORT), job_request({**REPORT, "unique_key": "a", "on_conflict": "reject"})],
            PYTHON,
        )
    assert count(platform) == 3


def test_thirty_at_once_with_one_unique_key_make_one_job(client, platform):
    jobs = at_once(30, lambda _: client.enqueue("build_report", {"account_id": 7}, unique_key="one"))
    assert len({job.id for job in jobs}) == 1
    assert count(platform) == 1


def test_thirty_at_once_of_whom_all_but_one_are_rejected(client, platform):
    def try_it(_):
        try:
            options = {"unique_key": "one", "on_conflict": "reject"}
            return client.enqueue("build_report", {"account_id": 7}, **options).id
        except Conflict:
            return None

    assert sum(job is not None for job in at_once(30, try_it)) == 1
    assert count(platform) == 1


def test_batches_that_take_the_same_keys_in_opposite_order_both_get_through(client, platform):
    requests = [job_request({**REPORT, "unique_key": f"key-{number}"}) for number in range(300)]
    orders = [requests, requests[::-1]] * 2
    answers = at_once(4, lambda turn: enqueue_all(platform, orders[turn], PYTHON))
    held = [{receipt.id for receipt in answer} for answer in answers]
    assert held[0] == held[1] == held[2] == held[3]
    assert count(platform) == 300


def test_a_key_that_changes_hands_is_an_answer_and_no_error(client, platform):
    def ask(turn):
        if turn:
            return [client.enqueue("build_report", {"account_id": 7}, unique_key="one") for _ in range(15)]
        free = "UPDATE callboard.jobs SET state = 'cancelled', finished_at = now() WHERE state = 'queued'"
        for _ in range(15):
            run_sql(platform, free)
        return []

    answers = [job for jobs in at_once(5, ask) for job in jobs]
    assert {job.unique_key for job in answers} == {"one"}
    assert count(platform) == len({job.id for job in answers})


def test_without_redis_an_enqueue_succeeds(client, platform):
    with without_redis(platform) as lame:
        job = Client.over(lame).enqueue("build_report", {"account_id": 7})
        ids = Client.over(lame).enqueue_many("build_report", [{"account_id": 1}, {"account_id": 2}])
    assert states(platform, [job.id, *ids]) == ["queued"] * 3


def test_without_postgres_nothing_is_accepted_and_the_message_says_where_it_looked():
    url = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    with (
        closing(Platform(url, NOWHERE)) as lost,
        pytest.raises(CallboardError, match=r"127\.0\.0\.1:1") as refusal,
    ):
        enqueue_one(lost, job_request({**REPORT, "unchecked": True}), PYTHON)
    assert refusal.value.code == "UNAVAILABLE"
