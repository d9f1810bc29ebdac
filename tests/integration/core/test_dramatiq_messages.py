"""A message means to Callboard's broker what it means to Dramatiq's own brokers."""

import json
import time
from uuid import uuid4

import dramatiq
import pytest
from dramatiq import Message
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import AgeLimit, Middleware, Retries, TimeLimit
from dramatiq.results import Results

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.request import job_request
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.exporting import waiting_messages
from tests.integration.core.factories import count, enqueue_one, run_sql


class Hearing(Middleware):
    """Keeps the id that each hook of an enqueue sees."""

    def __init__(self):
        self.ids = []

    def before_enqueue(self, broker, message, delay):
        self.ids.append(message.message_id)

    def after_enqueue(self, broker, message, delay):
        self.ids.append(message.message_id)


@pytest.fixture
def hearing():
    return Hearing()


@pytest.fixture
def broker(platform, monkeypatch, hearing):
    made = CallboardBroker(lambda: platform, middleware=[hearing])
    monkeypatch.setattr(dramatiq.broker, "global_broker", made)
    return made


@pytest.fixture
def noted(broker):
    @dramatiq.actor(queue_name="noted")
    def noted(value=None):
        """Nothing."""

    return noted


VALUES = [{1: "a"}, {None: 1, True: 2, 1.5: [{2: 3}]}, (1, (2,)), {"a": {7: 8}}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_arrives_as_from_a_stub_broker(platform, noted, value):
    stub = StubBroker()

    @dramatiq.actor(broker=stub, actor_name="stock")
    def stock(value):
        """Nothing."""

    stock.send(value)
    arrived = Message.decode(stub.queues["default"].get()).args[0]
    job = platform.jobs.get(noted.send(value).message_id)
    assert job.args[0] == arrived


def test_all_hooks_the_sender_and_the_job_have_one_id(platform, broker, hearing, noted):
    message = noted.message(1)
    before = message.message_id
    sent = broker.enqueue(message)
    assert {before, sent.message_id, *hearing.ids} == {str(platform.jobs.get(before).id)}
    assert noted.send(1).message_id == hearing.ids[-1] == hearing.ids[-2]


def test_an_id_that_another_program_made_is_replaced_before_the_first_hook(platform, broker, hearing, noted):
    message = noted.message(1).copy(message_id=str(uuid4()))
    sent = broker.enqueue(message)
    assert hearing.ids == [sent.message_id] * 2
    assert platform.jobs.get(sent.message_id).args == [1]


def test_a_timestamp_may_be_a_float_and_must_be_a_number(broker, noted):
    assert broker.enqueue(noted.message(1).copy(message_timestamp=time.time() * 1000, message_id="own"))
    for wrong in ("soon", None, float("nan")):
        with pytest.raises(InvalidInput, match="message_timestamp must be a number of milliseconds"):
            broker.enqueue(noted.message(1).copy(message_timestamp=wrong))


def test_join_waits_until_the_queue_has_no_unfinished_job(platform, broker, noted):
    broker.join("noted")
    noted.send_with_options(args=(1,), delay=3_600_000)
    with pytest.raises(QueueJoinTimeout):
        broker.join("noted", timeout=60)
    run_sql(platform, "UPDATE callboard.jobs SET state = 'succeeded', finished_at = now()")
    broker.join("noted", timeout=60)
    with pytest.raises(QueueNotFound):
        broker.join("other")


def test_flush_cancels_all_that_waits_in_the_queue(platform, broker, noted):
    @dramatiq.actor(queue_name="kept")
    def kept():
        """Nothing."""

    ids = [noted.send(1).message_id, noted.send_with_options(args=(1,), delay=60_000).message_id]
    other = kept.send().message_id
    broker.flush("noted")
    assert {platform.jobs.get(one).state for one in ids} == {JobState.CANCELLED}
    assert platform.jobs.get(other).state is JobState.QUEUED
    broker.flush_all()
    assert platform.jobs.get(other).state is JobState.CANCELLED
    assert broker.get_declared_queues() == {"noted", "kept"}
    assert broker.get_declared_delay_queues() == set()
    with pytest.raises(QueueNotFound):
        broker.flush("other")


def test_a_list_of_middleware_that_is_set_keeps_results_and_options(broker, noted):
    broker.middleware = [Retries(max_retries=1)]
    assert type(broker.get_results_backend()).__name__ == "PostgresResults"
    assert len([one for one in broker.middleware if isinstance(one, Retries)]) == 1
    assert any(isinstance(one, TimeLimit) for one in broker.middleware)
    assert "max_age" in broker.actor_options
    broker.middleware = []
    assert any(isinstance(one, Results) for one in broker.middleware)


@pytest.mark.parametrize(
    ("middleware", "options", "attempts"),
    [
        ([], {}, 21),
        ([Retries(max_retries=1)], {}, 2),
        ([Retries(max_retries=1)], {"max_retries": 4}, 5),
        ([Retries(max_retries=None)], {}, 1_000_000),
    ],
)
def test_retries_that_the_middleware_sets_are_those_of_its_actors(platform, middleware, options, attempts):
    broker = CallboardBroker(lambda: platform, middleware=[*middleware, AgeLimit(max_age=60_000)])

    @dramatiq.actor(broker=broker, **options)
    def limited_by_middleware():
        """Nothing."""

    job = platform.jobs.get(limited_by_middleware.send().message_id)
    assert job.max_attempts == attempts
    assert 50 < (job.expires_at - job.enqueued_at).total_seconds() < 70


def test_an_export_keeps_what_a_stock_worker_needs_to_go_on(platform, broker, noted, monkeypatch):
    monkeypatch.setattr("callboard.jobs.client.configured_app", lambda: "shop")
    made = int(time.time() * 1000) - 3_600_000
    earlier = noted.message_with_options(max_age=5_000_000)
    broker.enqueue(earlier.copy(message_id="earlier", message_timestamp=made))
    expiring = job_request({"name": "expiring", "unchecked": True, "expires_at": "2099-01-01T00:00:00Z"})
    enqueue_one(platform, expiring)
    old, limited = waiting_messages(platform.database, app="shop")
    assert old["actor_name"] == "noted"
    assert old["message_timestamp"] == made
    assert old["options"]["max_age"] == 5_000_000
    assert limited["actor_name"] == "expiring"
    assert limited["message_timestamp"] + limited["options"]["max_age"] == 4_070_908_800_000
    assert [one["actor_name"] for one in waiting_messages(platform.database)] == ["shop.noted", "expiring"]


def test_an_export_can_be_enqueued_in_a_stock_broker(platform, broker, noted):
    sent = [
        noted.send_with_options(args=(n,), delay=60_000 * n or None, max_retries=3, tenant=7)
        for n in range(3)
    ]
    exported = list(waiting_messages(platform.database, queue="noted"))
    assert [one["message_id"] for one in exported] == [one.message_id for one in sent]
    assert count(platform) == 3
    stub = StubBroker()
    stub.declare_queue("noted")
    for one in exported:
        message = Message.decode(json.dumps(one).encode())
        eta = message.options.pop("eta", None)
        stub.enqueue(message, delay=None if eta is None else max(0, eta - int(time.time() * 1000)))
        assert message.options == {"max_retries": 3, "tenant": 7}
    assert (stub.queues["noted"].qsize(), stub.queues["noted.DQ"].qsize()) == (1, 2)
    with pytest.raises(InvalidInput, match="only jobs that wait can be exported"):
        list(waiting_messages(platform.database, states=[JobState.RUNNING]))
