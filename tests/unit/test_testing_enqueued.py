"""`enqueued`: records what the code under test enqueues, without servers."""

from datetime import date, timedelta

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

from callboard import Client, Unique, job
from callboard.jobs.errors import InvalidArguments, InvalidInput, UnknownJob
from callboard.testing import Enqueued, NeedsServers


@job(queue="mail")
def noted_mail(order_id: int, copy: str = "no", on: date | None = None): ...


@job
async def noted_async(n: int): ...


@job(unique=Unique(by=("n",)))
def noted_once(n: int): ...


@job(name="noted_within")
def noted_clash(within: str): ...


@pytest.fixture
def noted_plain():
    """A plain actor on the broker of `@job`."""
    broker = dramatiq.get_broker()
    if "noted_plain" in broker.actors:
        return broker.actors["noted_plain"]

    @dramatiq.actor(actor_name="noted_plain")
    def plain(a, b=2): ...

    return plain


def test_every_door_is_recorded(enqueued, noted_plain):
    noted_mail.enqueue(1)
    noted_mail.with_options(delay="1h", priority=1).enqueue(order_id=2)
    noted_mail.enqueue_with({"order_id": 3}, tags=["a"])
    noted_mail.send(4)
    noted_mail.send_with_options(args=(5,), delay=5_000)
    noted_async.enqueue(6)
    with Client.from_env() as client:
        job_made = client.enqueue("noted_mail", {"order_id": 7})
        client.enqueue("noted_mail", {"order_id": 8}, connection=object())
        many = client.enqueue_many("noted_mail", [{"order_id": 9}, {"order_id": 10}])
    dramatiq.group([noted_plain.message(11), noted_plain.message(12)]).run()
    (noted_plain.message(13) | noted_plain.message(14)).run()
    watched = dramatiq.group([noted_plain.message(15)])
    watched.add_completion_callback(noted_plain.message(16))
    watched.run()
    given = [(one.args or list(one.kwargs.values()))[0] for one in enqueued.all]
    assert given == [*range(1, 14), 15]
    assert (job_made.id, *many) == tuple(
        one.id for one in enqueued.all if given[enqueued.all.index(one)] in {7, 9, 10}
    )
    assert enqueued.all[1].run_at - enqueued.all[1].enqueued_at >= timedelta(minutes=59)
    assert (enqueued.all[1].state, enqueued.all[0].state) == ("scheduled", "queued")


def test_a_client_and_a_broker_made_before_take_part(enqueued):
    broker = noted_mail.broker
    with Enqueued() as inner:
        early = Client.from_env()
    assert inner.all == []
    early.enqueue("noted_mail", {"order_id": 1})
    broker.enqueue(noted_mail.message(2))
    assert len(enqueued.all) == 2


def test_arguments_names_and_options_are_checked_as_ever(enqueued):
    with pytest.raises(InvalidArguments):
        noted_mail.enqueue("seven")
    with pytest.raises(InvalidInput):
        noted_mail.with_options(priority=12).enqueue(1)
    client = Client.from_env()
    with pytest.raises(UnknownJob, match="did you mean 'noted_mail'"):
        client.enqueue("noted_mial", {})
    with pytest.raises(InvalidArguments, match=r"jobs\[1\]"):
        client.enqueue_many("noted_mail", [{"order_id": 1}, {"order_id": "x"}])
    assert enqueued.all == []


def test_an_assertion_matches_arguments_however_they_were_given(enqueued):
    noted_mail.enqueue(7, on=date(2026, 1, 2))
    noted_mail.with_options(delay="30m", tags=["a", "b"]).enqueue(order_id=8, copy="yes")
    enqueued.assert_enqueued(noted_mail, order_id=7, copy="no", on=date(2026, 1, 2))
    enqueued.assert_enqueued("noted_mail", order_id=7, on="2026-01-02")
    [found] = enqueued.assert_enqueued(
        noted_mail, copy="yes", within="1h", after="30m", tags=["a"], queue="mail"
    )
    assert found.kwargs == {"order_id": 8, "copy": "yes"}
    enqueued.assert_enqueued(noted_mail, count=2)
    enqueued.refute_enqueued(noted_mail, order_id=9)
    enqueued.refute_enqueued(noted_mail, copy="yes", within="10m")
    enqueued.refute_enqueued(noted_async)
    noted_clash.enqueue("1h")
    enqueued.assert_enqueued(noted_clash, arguments={"within": "1h"})


def test_a_failure_shows_what_was_enqueued(enqueued):
    with pytest.raises(AssertionError, match="nothing was enqueued"):
        enqueued.assert_enqueued(noted_mail)
    enqueued.refute_enqueued()
    noted_mail.with_options(delay="2h").enqueue(order_id=8)
    with pytest.raises(AssertionError) as caught:
        enqueued.assert_enqueued(noted_mail, order_id=7, within="1h")
    assert str(caught.value) == (
        "no job like noted_mail(order_id=7) [due within 1h] was enqueued; these were enqueued:\n"
        "  1. noted_mail(order_id=8) [queue='mail', due in 2h]\n"
        "the closest is 1. noted_mail(order_id=8) [queue='mail', due in 2h]:"
        " order_id is 8, not 7; it is due in 2h, not within 1h"
    )
    for refuted in (lambda: enqueued.refute_enqueued(noted_mail), enqueued.refute_enqueued):
        with pytest.raises(AssertionError, match=r"should (not )?have been enqueued"):
            refuted()
    with pytest.raises(AssertionError, match="not 2 but 1 job"):
        enqueued.assert_enqueued(noted_mail, count=2)
    enqueued.clear()
    assert enqueued.all == []


def test_a_failure_tells_how_the_closest_job_differs(enqueued):
    noted_async.enqueue(1)
    for number in range(60):
        noted_mail.enqueue(number, copy="yes", on=date(2026, 1, 2))
    noted_mail.with_options(tags=["a"], priority=2, delay="10m").enqueue(order_id=70)
    for expected, told in (
        ({"order_id": 58, "copy": "no"}, r"is 60\. noted_mail\(58, .*\]: copy is 'yes', not 'no'$"),
        ({"order_id": 70, "tags": ["b", "a"]}, r"is 62\. .*: tags are \['a'\], without \['b'\]$"),
        ({"order_id": 70, "after": "1h", "copy": "no"}, r"it is due in 10m, not after 1h$"),
        ({"order_id": 1, "after": "1h"}, r"is 3\. .*: it is due at once, not after 1h$"),
        (
            {"order_id": 1, "queue": "other", "priority": 3, "unique_key": "k"},
            r"queue is 'mail', not 'other'; priority is 5, not 3; unique_key is None, not 'k'$",
        ),
        ({"order_id": 70, "on": date(2026, 1, 3), "count": 1}, r"is 62\. .*: on is None, not datetime"),
    ):
        with pytest.raises(AssertionError, match=told):
            enqueued.assert_enqueued(noted_mail, **expected)
    with pytest.raises(AssertionError, match=r"^noted_mail\(7, .*\] should not have been enqueued"):
        enqueued.refute_enqueued(noted_mail, order_id=7)


@pytest.mark.parametrize(
    "bad",
    [
        {"within": 60},
        {"after": b"1h"},
        {"within": "soon"},
        {"tags": "mail"},
        {"count": "1"},
        {"count": -1},
        {"arguments": [1]},
    ],
)
def test_a_wrong_expectation_is_an_error_and_no_match(enqueued, bad):
    noted_mail.with_options(tags=["m"]).enqueue(1)
    with pytest.raises(InvalidInput, match=next(iter(bad)) if bad != {"within": "soon"} else "soon"):
        enqueued.assert_enqueued(noted_mail, **bad)


def test_a_wrong_name_in_an_assertion_is_an_error_and_no_match(enqueued):
    with pytest.raises(InvalidInput, match="has no argument 'ordr_id'; it takes: order_id, copy, on"):
        enqueued.refute_enqueued(noted_mail, ordr_id=7)
    with pytest.raises(UnknownJob):
        enqueued.refute_enqueued("noted_mial")
    with pytest.raises(InvalidInput, match="is not a job"):
        enqueued.refute_enqueued(len)


def test_what_needs_servers_says_so(enqueued):
    made = noted_once.enqueue(1)
    noted_once.enqueue(2)
    with pytest.raises(NeedsServers, match="use the drain fixture"):
        noted_once.enqueue(1)
    with pytest.raises(NeedsServers, match="use the drain fixture"):
        Client.from_env().get(made.id)
    with pytest.raises(NeedsServers, match="use the drain fixture"):
        Client.from_env().wait(made.id, timeout=1)


def test_it_works_outside_of_pytest_and_undoes_itself():
    before = {owner: dict(vars(owner)) for owner in (Client, type(noted_mail.broker))}
    with Enqueued() as outer:
        noted_mail.enqueue(1)
        with Enqueued() as inner:
            noted_mail.enqueue(2)
        noted_mail.enqueue(3)
    assert [one.args for one in outer.all] == [[1], [3]]
    assert [one.args for one in inner.all] == [[2]]
    assert {owner: dict(vars(owner)) for owner in before} == before


def test_brokers_of_other_classes_are_recorded_and_connect_to_no_server(enqueued):
    """Also a broker whose class is first made in the test, and a message that the program makes itself."""
    stock = RedisBroker(url="redis://127.0.0.1:1")

    class Late(dramatiq.Broker):
        def declare_queue(self, queue_name): ...

        def enqueue(self, message, *, delay=None):
            raise RuntimeError("no server here")

    late, seen = Late(middleware=[Retries(max_retries=1)]), []

    class Own(RedisBroker):
        def enqueue(self, message, *, delay=None):
            seen.append(message.args)
            return super().enqueue(message, delay=delay)

    noted_stock = dramatiq.actor(lambda n: n, actor_name="noted_stock", broker=stock)
    noted_late = dramatiq.actor(lambda n: n, actor_name="noted_late", broker=late)
    noted_own = dramatiq.actor(lambda n: n, actor_name="noted_own", broker=Own(url="redis://127.0.0.1:1"))
    noted_stock.send(1)
    stock.enqueue(noted_stock.message(2), delay=60_000)
    noted_late.send(3)
    noted_own.send(4)
    assert seen == [(4,)]
    enqueued.assert_enqueued("noted_stock", count=2)
    enqueued.assert_enqueued("noted_stock", after="50s")
    assert [one.max_attempts for one in enqueued.assert_enqueued("noted_late")] == [2]
    enqueued.assert_enqueued("noted_own")


def test_brokers_of_other_classes_are_as_they_were_after_the_block():
    before = RedisBroker.enqueue
    with Enqueued():
        assert RedisBroker.enqueue is not before
    assert RedisBroker.enqueue is before
    assert "__init_subclass__" not in vars(dramatiq.Broker)
