"""Per source, a delivery id makes one delivery and one job. A different body under a used id is counted."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import orjson
import psycopg
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from structlog.testing import capture_logs

from callboard.jobs.errors import InvalidInput, NotFound
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.retention.retention import RetentionSpans
from callboard.jobs.webhooks import repository
from callboard.jobs.webhooks.delivery import Incoming, StoredDelivery
from callboard.jobs.webhooks.intake import source_request
from callboard.jobs.webhooks.schemes import SCHEMES
from tests.integration.core.factories import at_once, count, publish, run_sql, statements, until, url_of
from tests.integration.core.plans import Explaining

KEY = "0123456789abcdef0123456789abcdef"
SECRET = "a secret of some length"
BODY, OTHER = orjson.dumps({"n": 1}), orjson.dumps({"n": 2})
GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


@pytest.fixture
def intake(platform):
    publish(platform)
    made = platform.intake(KEY)
    for name in ("hub", "other"):
        make(made, name)
    yield made
    made.close()


def make(intake, name="hub", **options):
    request = {"name": name, "scheme": "github", "job": "take_webhook", "secret": SECRET, **options}
    return intake.create(source_request(request))


def headers(body, delivery=GUID):
    return {
        **SCHEMES["github"].sign(SECRET, body),
        "x-github-event": "push",
        "x-github-delivery": delivery,
    }


def send(intake, body=BODY, delivery=GUID, source="hub"):
    return intake.receive(Incoming(source, headers(body, delivery), body))


def requests_of(result):
    labels = {"source": "hub", "result": result}
    return REGISTRY.get_sample_value("callboard_webhook_requests_total", labels) or 0.0


def kept(platform):
    return count(platform, "webhook_deliveries"), count(platform)


def end(platform, accepted, state):
    run_sql(
        platform,
        "UPDATE callboard.jobs SET state = :state, finished_at = now() - interval '1 year' WHERE id = :id",
        state=state,
        id=accepted.job_ids[0],
    )


def test_one_id_from_two_sources_makes_two_jobs(platform, intake):
    first, other = send(intake), send(intake, source="other")
    assert (first.result, other.result) == ("accepted", "accepted")
    assert kept(platform) == (2, 2)


def test_an_id_is_used_even_if_its_job_failed_was_deleted_or_was_pruned(platform, intake):
    for delivery, ended in (
        ("failed", lambda job: None),
        ("deleted", platform.control.delete),
        (
            "pruned",
            lambda job: platform.retention.prune(
                RetentionSpans(succeeded=timedelta(days=1), other=timedelta(days=1))
            ),
        ),
    ):
        first = send(intake, delivery=delivery)
        end(platform, first, "failed")
        ended(first.job_ids[0])
        again = send(intake, delivery=delivery)
        assert (again.delivery_id, again.job_ids, again.result) == (
            first.delivery_id,
            first.job_ids,
            "duplicate",
        )
    assert count(platform, "webhook_deliveries") == 3


def test_a_source_that_is_made_anew_has_used_no_id(platform, intake):
    first = send(intake)
    intake.delete("hub")
    make(intake)
    again = send(intake)
    assert again.result == "accepted"
    assert again.job_ids != first.job_ids
    assert kept(platform) == (1, 2)


def test_an_id_is_an_opaque_text(platform, intake):
    for delivery in (GUID, GUID.upper(), "d" * 200, " x x "):
        assert send(intake, delivery=delivery).result == "accepted"
    assert send(intake, delivery="x x").result == "duplicate"


@pytest.mark.parametrize(
    ("delivery", "said"), [("", "is missing"), ("d" * 300, "longer than 200"), ("a\na", "more than once")]
)
def test_an_id_that_is_missing_too_long_or_repeated_is_refused(platform, intake, delivery, said):
    with pytest.raises(InvalidInput, match=f"x-github-delivery header .*{said}"):
        send(intake, delivery=delivery)
    assert kept(platform) == (0, 0)


def test_another_body_under_a_used_id_is_a_duplicate_that_is_counted_logged_and_visible(platform, intake):
    first = send(intake)
    assert platform.deliveries.get(first.delivery_id).mismatched_at is None
    before = requests_of("duplicate_mismatch")
    with capture_logs() as logs:
        again = send(intake, OTHER)
        send(intake, BODY)
    assert (again.delivery_id, again.job_ids, again.duplicate) == (first.delivery_id, first.job_ids, True)
    assert (again.result, requests_of("duplicate_mismatch")) == ("duplicate_mismatch", before + 1)
    (mismatch,) = [entry for entry in logs if entry["event"] == "webhook.body_mismatch"]
    assert (mismatch["log_level"], mismatch["source"], mismatch["delivery_id"]) == (
        "warning",
        "hub",
        str(first.delivery_id),
    )
    shown = platform.deliveries.get(first.delivery_id)
    assert (shown.source, shown.external_id, shown.event, shown.job_id) == (
        "hub",
        GUID,
        "push",
        first.job_ids[0],
    )
    assert shown.mismatch_count == 1
    assert shown.mismatched_at > shown.received_at
    assert kept(platform) == (1, 1)
    assert platform.jobs.get(first.job_ids[0]).kwargs["payload"] == {"n": 1}


def test_another_body_that_the_job_refuses_is_counted_too(platform, intake):
    first = send(intake)
    run_sql(platform, "UPDATE callboard.webhook_sources SET job = 'build_report' WHERE name = 'hub'")
    assert send(intake, OTHER).result == "duplicate_mismatch"
    assert platform.deliveries.get(first.delivery_id).mismatch_count == 1


def test_a_group_with_the_id_in_several_bodies_counts_each(platform, intake):
    bodies = [orjson.dumps({"n": n}) for n in (1, 1, 2, 3, 3)]
    group = [Incoming("hub", headers(body), body) for body in bodies]
    results, announce = intake._deliveries.receive_all(group)
    announce()
    assert [one.result for one in results] == [
        "accepted",
        "duplicate",
        "duplicate_mismatch",
        "duplicate_mismatch",
        "duplicate_mismatch",
    ]
    assert platform.deliveries.get(results[0].delivery_id).mismatch_count == 3


def test_fifty_bodies_at_once_under_one_id_make_one_job_and_forty_nine_mismatches(platform, intake):
    answers = at_once(50, lambda n: send(intake, orjson.dumps({"n": n})))
    assert len({(one.delivery_id, *one.job_ids) for one in answers}) == 1
    assert sorted(one.result for one in answers) == ["accepted"] + ["duplicate_mismatch"] * 49
    assert platform.deliveries.get(answers[0].delivery_id).mismatch_count == 49
    assert kept(platform) == (1, 1)


def test_the_count_stops_at_the_largest_integer(platform, intake):
    first = send(intake)
    run_sql(
        platform, "UPDATE callboard.webhook_deliveries SET mismatch_count = 2147483647, mismatched_at = now()"
    )
    assert send(intake, OTHER).result == "duplicate_mismatch"
    assert platform.deliveries.get(first.delivery_id).mismatch_count == 2147483647


def test_a_mismatch_does_not_wait_for_a_source_that_is_being_deleted(platform, intake):
    first = send(intake)
    with platform.database.transaction() as deleting:
        deleting.execute(text("DELETE FROM callboard.webhook_sources WHERE name = 'hub'"))
        again = send(intake, OTHER)
        deleting.rollback()
    assert (again.delivery_id, again.result) == (first.delivery_id, "duplicate_mismatch")


def test_deliveries_are_listed_newest_first_by_page_source_and_mismatch(platform, intake):
    ids = [send(intake, delivery=f"d-{n}").delivery_id for n in range(5)]
    elsewhere = send(intake, source="other").delivery_id
    send(intake, OTHER, delivery="d-1"), send(intake, OTHER, delivery="d-3")
    history = platform.deliveries
    assert [one.id for one in history.page().items] == [elsewhere, *reversed(ids)]
    assert [one.id for one in history.page(source="other").items] == [elsewhere]
    assert [one.id for one in history.page(mismatched=True).items] == [ids[3], ids[1]]
    assert history.page(source="other", mismatched=True).items == []
    pages, cursor = [], None
    while True:
        page = history.page(source="hub", cursor=cursor, limit=2)
        pages.append([one.id for one in page.items])
        cursor = page.next_cursor
        if cursor is None:
            break
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


def test_bad_pages_and_unknown_deliveries_are_refused_by_name(platform, intake):
    history = platform.deliveries
    for limit in (0, 201):
        with pytest.raises(InvalidInput, match="limit"):
            history.page(limit=limit)
    with pytest.raises(InvalidInput, match="cursor"):
        history.page(cursor="nonsense")
    with pytest.raises(NotFound, match="no webhook source 'nobody'"):
        history.page(source="nobody")
    with pytest.raises(NotFound, match="no webhook delivery"):
        history.get(new_id())


@pytest.mark.parametrize("ours", [False, True], ids=["plain connection", "our connection"])
def test_pages_and_mismatches_are_read_by_index(platform, intake, ours):
    run_sql(
        platform,
        "INSERT INTO callboard.webhook_deliveries"
        " (id, source_id, external_id, event, body_sha256, mismatch_count, mismatched_at)"
        " SELECT callboard.uuid7(), s.id, n::text, 'push', '', (n % 100 = 0)::int,"
        " CASE WHEN n % 100 = 0 THEN now() END"
        " FROM generate_series(1, 20000) n JOIN callboard.webhook_sources s"
        " ON s.name = CASE WHEN n % 10 = 0 THEN 'hub' ELSE 'other' END",
    )
    with platform.database.autocommit() as connection:
        connection.execute(text("VACUUM ANALYZE callboard.webhook_deliveries"))
        source = repository.source_id(connection, "hub")
        used = connection.connection.driver_connection if ours else None
        with psycopg.connect(url_of(platform).replace("+psycopg", ""), autocommit=True) as plain:
            for generic in (False, True):
                explaining = Explaining(used or plain, generic=generic)
                for where in (
                    {},
                    {"source": source},
                    {"mismatched": True},
                    {"source": source, "mismatched": True},
                ):
                    for before in (None, new_id()):
                        chosen = {"source": None, "mismatched": False, **where}
                        repository.page(explaining, before=before, limit=51, **chosen)
                repository.show(explaining, new_id())
                repository.count_mismatches(explaining, [StoredDelivery(new_id(), source, "x", "", None)])
                accesses = [each for plan in explaining.plans for each in plan.accesses("webhook_deliveries")]
                assert len(accesses) >= 10
                assert [each for each in accesses if each.index is None] == []
                assert [each for each in accesses if not (each.leads or each.limited)] == []


def test_look_ups_of_unknown_names_at_the_same_time_share_queries(platform, intake):
    async def body():
        raise AssertionError("the body of a request to an unknown source was read")

    asking = []

    async def ask(name):
        asking.append(name)
        with pytest.raises(NotFound, match="no webhook source"):
            await intake.receive_async(name, {}, body)

    async def flood():
        return await asyncio.gather(*(ask(f"nobody-{n}") for n in range(300)))

    with statements(platform) as told, ThreadPoolExecutor(1) as pool:
        with platform.database.transaction() as holding:
            holding.execute(text("LOCK TABLE callboard.webhook_sources IN ACCESS EXCLUSIVE MODE"))
            asked = pool.submit(asyncio.run, flood())
            until(lambda: len(asking) == 300)
        asked.result(30)
    assert sum("webhook_sources WHERE name" in statement for statement in told) <= 3


def test_an_unknown_name_is_read_again_and_a_known_one_is_not(platform, intake):
    async def body():
        return BODY

    async def ask(name):
        return (await intake.receive_async(name, headers(BODY), body)).result

    with pytest.raises(NotFound):
        asyncio.run(ask("new"))
    make(platform.intake(KEY), "new")  # as another process does
    assert asyncio.run(ask("new")) == "accepted"
    with statements(platform) as told:
        assert asyncio.run(ask("new")) == "duplicate"
    assert told == []


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "ü", "x" * 101, "a b\n"])
def test_a_name_that_no_source_can_have_is_not_looked_up(platform, intake, name):
    with statements(platform) as told, pytest.raises(NotFound):
        asyncio.run(intake.receive_async(name, {}, None))
    assert told == []
