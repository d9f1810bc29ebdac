"""The tools for tests with CALLBOARD_APP: jobs have the namespace of the application."""

import pytest

from callboard import Client, current_job, job
from callboard.jobs import client as client_module
from callboard.jobs.errors import UnknownJob
from callboard.testing import run


@pytest.fixture(autouse=True)
def _app(monkeypatch):
    monkeypatch.setenv("CALLBOARD_APP", "billing")
    client_module.configured_app.cache_clear()
    yield
    client_module.configured_app.cache_clear()


@job
def spaced_notify(order: int) -> str:
    return f"notified {order}"


@job(namespace="shop")
def spaced_ship(order: int): ...


@job
def spaced_charge(order: int):
    current_job().enqueue("spaced_notify", {"order": order})
    spaced_notify.enqueue(order)


DOORS = {
    "enqueue": lambda _: spaced_notify.enqueue(1),
    "send": lambda _: spaced_notify.send(1),
    "bare name": lambda client: client.enqueue("spaced_notify", {"order": 1}),
    "full name": lambda client: client.enqueue("billing.spaced_notify", {"order": 1}),
    "the job itself": lambda client: client.enqueue(spaced_notify, {"order": 1}),
    "many": lambda client: client.enqueue_many("spaced_notify", [{"order": 1}]),
}


@pytest.mark.parametrize("door", DOORS)
def test_each_door_records_the_full_name_and_the_bare_name_finds_it(enqueued, door):
    with Client.from_env() as client:
        DOORS[door](client)
    assert [one.name for one in enqueued.all] == ["billing.spaced_notify"]
    for name in (spaced_notify, "spaced_notify", "billing.spaced_notify"):
        enqueued.assert_enqueued(name, order=1)
    enqueued.refute_enqueued(spaced_ship)


def test_a_job_that_is_given_itself_keeps_its_namespace(enqueued):
    with Client.from_env() as client:
        assert client.enqueue(spaced_notify, {"order": 1}).name == "billing.spaced_notify"
        assert client.enqueue(spaced_ship, {"order": 1}).name == "shop.spaced_ship"


def test_the_bare_name_of_another_namespace_is_refused_with_the_full_name(enqueued):
    with Client.from_env() as client, pytest.raises(UnknownJob, match=r"there is 'shop.spaced_ship'"):
        client.enqueue("spaced_ship", {"order": 1})
    assert enqueued.all == []


def test_a_run_gives_its_job_and_what_it_enqueues_their_full_names():
    result = run(spaced_charge, 1)
    assert result.error is None
    assert [one.name for one in result.enqueued] == ["billing.spaced_notify"] * 2
