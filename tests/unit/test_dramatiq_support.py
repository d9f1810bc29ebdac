"""What stands between Dramatiq's ways and ours: priorities, ids, options, middleware."""

import logging
import math
import sys
import time
import tomllib
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from uuid import RFC_4122, uuid4

import dramatiq
import pytest
from dramatiq import Message
from dramatiq.middleware import (
    AgeLimit,
    Middleware,
    Pipelines,
    Retries,
    SkipMessage,
    default_middleware,
)
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

from callboard.config.settings import load_settings
from callboard.jobs.dramatiq.actor import job
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.dispatching import dispatch_of, expiry, priority_of, with_eta
from callboard.jobs.dramatiq.loading import load_middleware
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.ids import id_of, made_at, new_id
from tests.unit.test_docs import ROOT, rows


class Noting(Middleware):
    actor_options = {"noted"}  # noqa: RUF012 - as in Dramatiq

    def __init__(self) -> None:
        self.seen: list[str] = []

    def before_enqueue(self, broker, message, delay):
        self.seen.append(message.actor_name)


def nowhere():
    raise AssertionError("nothing connects here")


@pytest.fixture
def broker():
    return CallboardBroker(nowhere, middleware=[])


def test_priorities_keep_their_order_and_their_middle():
    given = [-5_000, -100, -99, -10, -9, -2, -1, 0, 1, 2, 9, 10, 99, 100, 5_000]
    assert [priority_of(one) for one in given] == [1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 7, 8, 8, 9, 9]


def test_a_message_that_was_sent_with_an_eta_waits_until_then():
    def delay(eta):
        return dispatch_of(Message("default", "later", (), {}, {"eta": eta}), None).request.delay

    now = time.time() * 1000
    assert timedelta(seconds=50) < delay(now + 60_000) <= timedelta(seconds=60)
    assert delay(int(now) - 5_000) == timedelta(0)
    assert [delay(eta) for eta in ("soon", None, math.inf, math.nan)] == [None] * 4


def test_a_delayed_message_has_an_eta_as_in_dramatiq():
    message = Message("default", "later", (), {}, {"own": 1})
    assert with_eta(message, None) is message
    later = with_eta(message, 60_000)
    assert later.options.keys() == {"own", "eta"}
    assert message.options == {"own": 1}
    assert later.options["eta"] > (time.time() + 50) * 1000


def test_an_id_made_elsewhere_stands_for_the_same_job_each_time():
    for name in (str(uuid4()), "order-7", ""):
        job = id_of(name, 1_700_000_000_000)
        assert job == id_of(name, 1_700_000_000_000)
        assert (job.version, job.variant, made_at(job)) == (7, RFC_4122, 1_700_000_000_000)
    assert id_of("a", 1) != id_of("b", 1)
    ours = new_id()
    assert id_of(str(ours), 5) == ours


@pytest.mark.parametrize("made", [-(2**60), 2**60])
def test_a_time_that_no_id_can_carry_is_brought_within_bounds(made):
    assert id_of("a", made).version == 7


def test_a_message_grows_too_old_by_its_own_limit_or_its_actors():
    assert expiry(1_000, {}, {}) is None
    assert expiry(1_000, {}, {"max_age": 500}).timestamp() == 1.5
    assert expiry(1_000, {"max_age": 1_000}, {"max_age": 500}).timestamp() == 2
    assert expiry(1_000, {"max_age": float("inf")}, {}) is None
    assert expiry(1_000, {"max_age": "soon"}, {}) is None


def test_dramatiqs_own_middleware_has_its_options_and_its_place_and_hooks_nothing(broker):
    assert all(any(isinstance(one, kind) for one in broker.middleware) for kind in default_middleware)
    assert {
        "max_retries",
        "time_limit",
        "max_age",
        "on_success",
        "pipe_ignore",
        "store_results",
    } <= broker.actor_options
    assert [name for name in dir(Middleware) if broker.hooks(name)] == []
    noting = Noting()
    broker.add_middleware(noting, before=Retries)
    place = broker.middleware.index(noting)
    assert isinstance(broker.middleware[place + 1], Retries)
    assert isinstance(broker.middleware[place - 1], Pipelines)


def test_what_the_platform_replaces_is_not_run_when_a_program_adds_it(broker, caplog):
    caplog.set_level(logging.ERROR)
    broker.add_middleware(Retries(max_retries=1))
    broker.add_middleware(AgeLimit())
    assert broker.hooks("after_process_message") == broker.hooks("before_process_message") == []
    # a result backend of a program's own goes on being written to
    broker.add_middleware(Results(backend=StubBackend()))
    assert len(broker.hooks("after_process_message")) == 1
    assert type(broker.get_results_backend()).__name__ == "PostgresResults"


def test_a_hook_that_fails_is_not_the_messages_fault(broker):
    class Failing(Middleware):
        def before_enqueue(self, broker, message, delay):
            raise ValueError("broken")

        def after_enqueue(self, broker, message, delay):
            raise ValueError("broken")

    noting = Noting()
    broker.add_middleware(Failing())
    broker.add_middleware(noting)

    @dramatiq.actor(broker=broker, noted=True)
    def actor():
        """Nothing."""

    broker.emit_before("enqueue", actor.message(), None)
    broker.emit_after("enqueue", actor.message(), None)
    assert noting.seen == ["actor"]


def test_a_hook_may_refuse_a_message(broker):
    class Refusing(Middleware):
        def before_enqueue(self, broker, message, delay):
            raise SkipMessage("no")

    broker.add_middleware(Refusing())
    with pytest.raises(SkipMessage):
        broker.emit_before("enqueue", None, None)


@pytest.fixture
def shop(monkeypatch):
    module = ModuleType("shop_mw")
    module.Noting, module.made, module.number = Noting, Noting(), 7
    monkeypatch.setitem(sys.modules, "shop_mw", module)
    return module


def test_middleware_is_loaded_by_name_as_a_class_or_an_instance(shop):
    first, second = load_middleware(["shop_mw:Noting", "shop_mw:made"])
    assert isinstance(first, Noting)
    assert second is shop.made


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_mw:Noting", "cannot be loaded: ModuleNotFoundError"),
        ("shop_mw:Nobody", "cannot be loaded: AttributeError"),
        ("shop_mw:number", "is not middleware"),
        ("builtins:int", "is not middleware"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_the_reason(shop, name, said):
    with pytest.raises(InvalidInput) as error:
        load_middleware([name])
    assert error.value.message.startswith(f"CALLBOARD_MIDDLEWARE: {name!r} {said}")


def test_the_page_lists_the_tests_of_dramatiq_that_are_left_out():
    listed = tomllib.loads((ROOT / "tests/contract/dramatiq/left_out.toml").read_text())
    told = {cells[0].strip("`"): cells[1] for cells in rows("docs/how-to/dramatiq.md", "left out", "why")}
    assert told == listed["files"] | listed["tests"]


def test_every_reason_is_said(tmp_path: Path):
    listed = tomllib.loads((ROOT / "tests/contract/dramatiq/left_out.toml").read_text())
    assert all(len(reason) > 15 for part in listed.values() for reason in part.values())


def test_the_setting_is_heeded_by_programs_that_send(shop, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLBOARD_MIDDLEWARE", "shop_mw:Noting, shop_mw:made")
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)

    @job
    def declared() -> None:
        """Nothing."""

    for broker in (CallboardBroker(nowhere), declared.broker):
        assert [type(one) for one in broker.middleware[-2:]] == [Noting, Noting]
        assert "noted" in broker.actor_options
    assert CallboardBroker(nowhere, middleware=[]).hooks("before_enqueue") == []


@pytest.mark.parametrize("bad", ["shop", "shop.mw:", ":Noting", "shop mw:Noting", "shop:Noting()"])
def test_a_setting_that_is_no_name_is_refused(bad, tmp_path):
    with pytest.raises(InvalidInput, match=r"CALLBOARD_MIDDLEWARE is .*module:attribute"):
        load_settings({"CALLBOARD_MIDDLEWARE": bad}, tmp_path)
