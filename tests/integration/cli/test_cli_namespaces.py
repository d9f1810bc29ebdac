"""Bare names on the command line of an application with a namespace, and without one."""

from typing import Any

import pytest

from callboard.jobs.definitions.arguments import describe
from callboard.jobs.model.job_type import JobType


def handle(event: str = "", delivery_id: str = "", payload: Any = None) -> None: ...


DOORS = {
    "job enqueue": ("job", "enqueue", "handle_order", "--json"),
    "job types": ("job", "types", "handle_order", "--json"),
    "schedule": ("schedule", "create", "nightly", "--job", "handle_order", "--every", "1h", "--json"),
    "webhook": (
        *("webhook", "source", "create", "shop", "--scheme", "github", "--job", "handle_order"), "--json",
    ),
    "key": ("key", "create", "worker", "--role", "operator", "--job", "handle_order", "--json"),
}  # fmt: skip
REFUSALS = [door for door in DOORS if door != "key"]


def publish_in(platform, *names: str) -> None:
    schema = describe(handle).schema
    platform.catalogue.publish(
        [JobType(name, "orders", schema, 5, 10, None, f"Of {name}.") for name in names]
    )


@pytest.fixture
def two_services(platform):
    publish_in(platform, "billing.handle_order", "shop.handle_order")


def named(shown: dict) -> str:
    """The job's name in what a command prints."""
    if "items" in shown:
        [shown] = shown["items"]
    return shown.get("job") or shown["name"]


@pytest.mark.parametrize("door", DOORS)
def test_a_bare_name_is_that_of_the_applications_own_job(callboard, two_services, door):
    outcome = callboard(*DOORS[door], app="shop")
    assert outcome.code == 0, outcome.err
    assert named(outcome.json) == "shop.handle_order"


@pytest.mark.parametrize("door", DOORS)
def test_a_full_name_is_that_of_any_service(callboard, two_services, door):
    arguments = ["billing.handle_order" if part == "handle_order" else part for part in DOORS[door]]
    outcome = callboard(*arguments, app="shop")
    assert outcome.code == 0, outcome.err
    assert named(outcome.json) == "billing.handle_order"


@pytest.mark.parametrize("door", REFUSALS)
def test_without_a_namespace_a_bare_name_is_refused_with_the_full_names(callboard, two_services, door):
    outcome = callboard(*DOORS[door])
    assert outcome.code == 3
    assert "no job is called 'handle_order'" in outcome.err
    assert "'billing.handle_order', 'shop.handle_order'; give the full name" in outcome.err


def test_many_services_with_the_name_are_named_up_to_a_limit(callboard, platform):
    publish_in(platform, *(f"s{number}.handle_order" for number in range(8)))
    outcome = callboard("job", "enqueue", "handle_order")
    assert "'s0.handle_order'" in outcome.err
    assert "and 3 more" in outcome.err


def test_the_help_of_an_enqueue_shows_the_applications_own_job(callboard, two_services):
    assert "Of shop.handle_order." in callboard("job", "enqueue", "handle_order", "--help", app="shop").out
    assert "No worker has published" in callboard("job", "enqueue", "handle_order", "--help").out
