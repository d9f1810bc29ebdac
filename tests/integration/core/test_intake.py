"""Webhook intake: proven, kept once, and its job with it in one transaction."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import orjson
import pytest
from sqlalchemy import text

from callboard.jobs.errors import (
    Busy,
    Conflict,
    InvalidArguments,
    InvalidInput,
    NotFound,
    Unauthorized,
    Unavailable,
    UnknownJob,
)
from callboard.jobs.webhooks.delivery import Incoming
from callboard.jobs.webhooks.intake import Intake, source_request
from callboard.jobs.webhooks.schemes import SCHEMES
from callboard.jobs.webhooks.secret_box import SecretBox
from tests.integration.core.factories import FakeClock, at_once, count, publish, run_sql, until

KEY = "0123456789abcdef0123456789abcdef"
BODY = orjson.dumps({"action": "opened", "number": 7})


@pytest.fixture
def intake(platform):
    publish(platform)
    return platform.intake(KEY)


def make(intake, name="hub", **options):
    return intake.create(source_request({"name": name, "scheme": "github", "job": "take_webhook", **options}))


def receive(intake, name, headers, body):
    return intake.receive(Incoming(name, headers, body))


def signed(secret, body=BODY, *, delivery="d-1", event="issues"):
    return {**SCHEMES["github"].sign(secret, body), "x-github-event": event, "x-github-delivery": delivery}


@pytest.fixture
def secret(intake):
    return make(intake)[1]


def kept(platform):
    return count(platform, "webhook_deliveries"), count(platform)


def test_a_proven_delivery_becomes_a_job(platform, intake, secret):
    accepted = receive(intake, "hub", signed(secret), BODY)
    assert not accepted.duplicate
    (job,) = platform.jobs.get_many(accepted.job_ids)
    assert (job.name, job.queue, job.priority, job.max_attempts) == ("take_webhook", "hooks", 3, 4)
    assert job.kwargs == {
        "event": "issues",
        "delivery_id": "d-1",
        "payload": {"action": "opened", "number": 7},
    }
    assert (job.source, job.source_id) == ("webhook", str(accepted.delivery_id))
    assert kept(platform) == (1, 1)


def test_a_delivery_that_is_sent_again_is_answered_with_the_first(platform, intake, secret):
    first = receive(intake, "hub", signed(secret), BODY)
    again = receive(intake, "hub", signed(secret), BODY)
    assert (again.delivery_id, again.job_ids, again.duplicate) == (first.delivery_id, first.job_ids, True)
    other = receive(intake, "hub", signed(secret, delivery="d-2"), BODY)
    assert not other.duplicate
    assert kept(platform) == (2, 2)


def test_twenty_at_once_with_one_id_make_one_delivery_and_one_job(platform, intake, secret):
    answers = at_once(20, lambda _: receive(intake, "hub", signed(secret), BODY))
    assert sum(not answer.duplicate for answer in answers) == 1
    assert len({(answer.delivery_id, *answer.job_ids) for answer in answers}) == 1
    assert kept(platform) == (1, 1)


def test_the_same_id_from_two_sources_is_two_deliveries(platform, intake, secret):
    _, other = make(intake, "other")
    receive(intake, "hub", signed(secret), BODY)
    assert not receive(intake, "other", signed(other), BODY).duplicate
    assert kept(platform) == (2, 2)


def test_a_bad_signature_keeps_nothing(platform, intake, secret):
    forged = signed("another secret of some length")
    for headers in ({}, forged, {**signed(secret), "x-hub-signature-256": "sha256=" + "0" * 64}):
        with pytest.raises(Unauthorized):
            receive(intake, "hub", headers, BODY)
    with pytest.raises(Unauthorized):
        receive(intake, "hub", signed(secret), BODY + b" ")
    assert kept(platform) == (0, 0)
    assert not receive(intake, "hub", signed(secret), BODY).duplicate


def test_a_handshake_makes_no_delivery(platform, intake, secret):
    accepted = receive(intake, "hub", signed(secret, event="ping"), BODY)
    assert (accepted.delivery_id, accepted.job_ids, accepted.duplicate) == (None, [], False)
    with pytest.raises(Unauthorized):
        receive(intake, "hub", signed("another secret of some length", event="ping"), BODY)
    assert kept(platform) == (0, 0)


def test_an_event_that_nobody_listens_to_is_kept_without_a_job(platform, intake):
    _, secret = make(intake, "picky", events=["push"])
    ignored = receive(intake, "picky", signed(secret), BODY)
    assert (ignored.job_ids, ignored.delivery_id is None) == ([], False)
    assert receive(intake, "picky", signed(secret), BODY).duplicate
    assert kept(platform) == (1, 0)
    assert len(receive(intake, "picky", signed(secret, delivery="d-2", event="push"), BODY).job_ids) == 1


@pytest.mark.parametrize("body", [b"", b"no json", b"{", b"\xff", b'"a\\u0000b"', b"[1e400]", b"[" * 2_000])
def test_a_proven_body_that_arguments_cannot_hold_is_kept_and_its_job_has_no_payload(
    platform, intake, secret, body
):
    accepted = receive(intake, "hub", signed(secret, body), body)
    (job,) = platform.jobs.get_many(accepted.job_ids)
    assert job.kwargs == {"event": "issues", "delivery_id": "d-1", "payload": None}
    assert job.options == {"delivery": str(accepted.delivery_id)}
    assert platform.deliveries.body(accepted.delivery_id) == body
    assert receive(intake, "hub", signed(secret, body), body).duplicate
    assert kept(platform) == (1, 1)


@pytest.mark.parametrize(
    "headers", [{"x-github-delivery": ""}, {"x-github-delivery": "d" * 201}, {"x-github-event": "e" * 201}]
)
def test_an_unusable_id_or_event_keeps_nothing(platform, intake, secret, headers):
    with pytest.raises(InvalidInput):
        receive(intake, "hub", {**signed(secret), **headers}, BODY)
    assert kept(platform) == (0, 0)


def test_a_job_that_does_not_take_it_keeps_nothing_and_a_repeat_may_succeed(platform, intake, secret):
    run_sql(platform, "UPDATE callboard.webhook_sources SET job = 'build_report'")
    with pytest.raises(InvalidArguments):
        receive(intake, "hub", signed(secret), BODY)
    assert kept(platform) == (0, 0)
    run_sql(platform, "UPDATE callboard.webhook_sources SET job = 'take_webhook'")
    assert not receive(intake, "hub", signed(secret), BODY).duplicate


def test_a_delivery_for_a_job_that_no_worker_knows_yet_waits_for_one_to_come(platform, intake, secret):
    run_sql(platform, "UPDATE callboard.webhook_sources SET job = 'to_come'")
    accepted = receive(intake, "hub", signed(secret), BODY)
    assert [platform.jobs.get(job).name for job in accepted.job_ids] == ["to_come"]
    assert kept(platform) == (1, 1)


def test_secrets_are_stored_encrypted_and_any_of_several_proves(platform, intake, secret):
    (source,) = intake.every()
    assert secret not in source.secrets[0]
    second = make(intake, "second")[1]
    run_sql(
        platform,
        "UPDATE callboard.webhook_sources h SET secrets = h.secrets || s.secrets FROM callboard.webhook_sources s"
        " WHERE h.name = 'hub' AND s.name = 'second'",
    )
    assert not receive(intake, "hub", signed(second), BODY).duplicate
    assert not receive(intake, "hub", signed(secret, delivery="d-2"), BODY).duplicate
    # the sender is not at fault
    with pytest.raises(Unavailable, match="'hub' cannot be read"):
        receive(platform.intake("another key of some length"), "hub", signed(secret), BODY)


def test_sources_are_checked_when_they_are_made(platform, intake, secret):
    for options, error in (
        ({"name": "a b"}, InvalidInput), ({"name": "x\n"}, InvalidInput), ({"scheme": "none"}, InvalidInput),
        ({"job": "take_webhok"}, UnknownJob), ({"job": "build_report"}, InvalidArguments), ({"secret": "short"}, InvalidInput),
        ({"events": ["\0"]}, InvalidInput), ({"name": "hub"}, Conflict),
    ):  # fmt: skip
        with pytest.raises(error):
            make(intake, **{"name": "new", **options})
    assert [source.name for source in intake.every()] == ["hub"]


def test_a_source_that_is_none_is_not_found_and_a_deleted_one_leaves_its_jobs(platform, intake, secret):
    receive(intake, "hub", signed(secret), BODY)
    intake.delete("hub")
    assert kept(platform) == (0, 1)
    for ask in (lambda: receive(intake, "hub", signed(secret), BODY), lambda: intake.delete("hub")):
        with pytest.raises(NotFound):
            ask()


def test_a_delivery_that_meets_the_deletion_of_its_source_hears_of_that(platform, intake, secret):
    receive(intake, "hub", signed(secret), BODY)
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%deliveries%'"
    )
    with ThreadPoolExecutor(1) as pool:
        with platform.database.transaction() as deleting:
            deleting.execute(text("DELETE FROM callboard.webhook_sources WHERE name = 'hub'"))
            told = pool.submit(receive, intake, "hub", signed(secret, delivery="d-2"), BODY)
            until(lambda: told.done() or deleting.execute(waiting).scalar_one())
        with pytest.raises((Busy, NotFound)):
            told.result()
    assert kept(platform) == (0, 1)


def test_a_source_that_is_being_deleted_holds_up_no_other(platform, intake, secret):
    _, other = make(intake, "other")
    receive(intake, "hub", signed(secret), BODY)
    group = [
        Incoming("hub", signed(secret, delivery="d-2"), BODY),
        Incoming("other", signed(other), BODY),
        Incoming("hub", signed(secret), BODY),
    ]
    with platform.database.transaction() as deleting:
        deleting.execute(text("DELETE FROM callboard.webhook_sources WHERE name = 'hub'"))
        (refused, accepted, again), announce = intake._deliveries.receive_all(group)
        announce()
        assert isinstance(refused, Busy)
        assert "source is being changed" in refused.message
        assert (accepted.result, again.result) == ("accepted", "duplicate")
        deleting.rollback()
    assert kept(platform) == (2, 2)


def test_a_handshake_is_not_answered_for_a_secret_that_was_just_removed(platform, intake, secret):
    ping = signed(secret, event="ping")
    assert receive(intake, "hub", ping, BODY).result == "handshake"
    other = make(intake, "other")[1]
    run_sql(platform, _TAKES_THE_OTHERS)
    with pytest.raises(Unauthorized):
        receive(intake, "hub", ping, BODY)
    assert receive(intake, "hub", signed(other, event="ping"), BODY).result == "handshake"
    run_sql(platform, "DELETE FROM callboard.webhook_sources WHERE name = 'hub'")
    with pytest.raises(NotFound):
        receive(intake, "hub", signed(other, event="ping"), BODY)


def test_a_new_secret_holds_for_two_that_come_at_once(platform, secret):
    clock = Meanwhile()
    intake = Intake(platform.database, platform.enqueue, platform.catalogue, SecretBox(KEY), clock=clock)
    receive(intake, "hub", signed(secret), BODY)
    new = make(intake, "other")[1]
    run_sql(platform, _TAKES_THE_OTHERS)
    clock.advance(1)

    def another() -> None:
        clock.advance(1)
        assert receive(intake, "hub", signed(new, delivery="d-3"), BODY).result == "accepted"

    # While one is verified by what is remembered, the other finds out that this has changed.
    clock.meanwhile = another
    assert receive(intake, "hub", signed(new, delivery="d-2"), BODY).result == "accepted"


#: What rotates the secret of `hub`.
_TAKES_THE_OTHERS = """UPDATE callboard.webhook_sources h SET secrets = s.secrets FROM callboard.webhook_sources s
WHERE h.name = 'hub' AND s.name = 'other'"""


class Meanwhile(FakeClock):
    """Does something else, once, when it is asked for the time of day."""

    meanwhile: Callable[[], None] | None = None

    def now(self) -> datetime:
        work, self.meanwhile = self.meanwhile, None
        if work is not None:
            work()
        return super().now()
