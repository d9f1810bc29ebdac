"""Unique keys: held for a period, replaced before they begin, made of arguments; at the Python door and at
the SQL one.
"""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import redis
from prometheus_client import REGISTRY

from callboard.jobs.client import Client
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.enqueue.repository import inserting
from callboard.jobs.errors import Conflict, InvalidInput
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.job import Source
from callboard.jobs.model.job_type import JobType, UniqueRule
from callboard.jobs.model.request import job_request
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.retention.retention import RetentionSpans
from callboard.scheduler.pruner import Pruner
from tests.integration.core.factories import (
    PYTHON,
    at_once,
    count,
    enqueue_all,
    enqueue_one,
    execution,
    publish,
    put_job,
    run_sql,
    url_of,
)

KEYED = {"unique_key": "one", "unique_for": "1h"}
REPLACE = {"unique_key": "one", "on_conflict": "replace"}


@pytest.fixture
def client(platform):
    publish(platform)
    return Client.over(platform)


def put(platform, state, **columns):
    with platform.database.transaction() as connection:
        return put_job(connection, state, unique_key="one", **columns)


def report(client, account=7, **options):
    return client.enqueue("build_report", {"account_id": account}, **options)


def end(platform, state="succeeded"):
    run_sql(
        platform, "UPDATE callboard.jobs SET state = :state, finished_at = now() WHERE finished_at IS NULL", state=state
    )  # fmt: skip


def expire_holds(platform):
    run_sql(platform, "UPDATE callboard.unique_holds SET until = now() - interval '1s'")


def conflicts(result):
    labels = {"job_name": "build_report", "result": result}
    return REGISTRY.get_sample_value("callboard_unique_conflicts_total", labels) or 0.0


# ---- for a period
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
@pytest.mark.parametrize("later", [KEYED, {"unique_key": "one"}, REPLACE])
def test_a_key_is_held_for_its_period_whatever_becomes_of_the_job(client, platform, state, later):
    first = report(client, **KEYED)
    end(platform, state)
    again = report(client, 8, **later)
    assert (again.id, again.state, again.kwargs) == (first.id, state, {"account_id": 7})
    with pytest.raises(Conflict, match=rf"held by job {first.id} \({state}\), until 2"):
        report(client, unique_key="one", on_conflict="reject")
    assert count(platform) == 1


def test_a_key_whose_period_is_over_is_free_once_its_job_has_ended(client, platform):
    first = report(client, **KEYED)
    expire_holds(platform)
    assert report(client, **KEYED).id == first.id
    end(platform)
    second = report(client, **KEYED)
    assert second.id != first.id
    end(platform)
    assert report(client, **KEYED).id == second.id


def test_a_key_that_was_held_while_the_statement_ran_is_found_out(client, platform, monkeypatch):
    """As when another takes the key, and is finished with the job, after this enqueue began to look."""
    first = report(client, **KEYED)
    end(platform)
    monkeypatch.setattr(inserting, "_KEYED", inserting._PLAIN)
    receipt = enqueue_one(platform, job_request({"name": "build_report", "kwargs": {"account_id": 8}, **KEYED, "on_conflict": "existing"}), PYTHON
    )  # fmt: skip
    assert (receipt.id, receipt.existed) == (first.id, True)
    assert count(platform) == 1


def test_a_key_goes_with_its_job(client, platform):
    first = report(client, **KEYED)
    end(platform)
    platform.control.delete(first.id)
    assert report(client, **KEYED).id != first.id


def test_jobs_without_a_period_hold_nothing(client, platform):
    report(client)
    report(client, unique_key="one")
    report(client, unique_key="two", unique_for="0s")
    assert count(platform, "unique_holds") == 0


def test_fifty_at_once_make_one_job(client, platform):
    def ask(turn):
        if turn % 10 == 9:
            end(platform)
        return report(client, turn, **KEYED).id

    assert len(set(at_once(50, ask))) == 1
    assert count(platform) == count(platform, "unique_holds") == 1


def test_batches_that_hold_the_same_keys_in_opposite_order_both_get_through(client, platform):
    keys = [{"unique_key": f"key-{number}", "unique_for": "1h"} for number in range(200)]
    requests = [job_request({"name": "build_report", "kwargs": {"account_id": 7}, **key}) for key in keys]
    orders = [requests, requests[::-1]] * 2
    answers = at_once(4, lambda turn: enqueue_all(platform, orders[turn], PYTHON))
    assert len({receipt.id for answer in answers for receipt in answer}) == 200
    assert count(platform) == count(platform, "unique_holds") == 200


def test_a_period_without_a_key_is_refused(client, platform):
    for options in ({"unique_for": "1h"}, {"on_conflict": "replace"}, {"on_conflict": "reject"}):
        with pytest.raises(InvalidInput, match="needs a unique_key"):
            report(client, **options)
    assert count(platform) == 0


def test_the_pruner_removes_keys_whose_period_is_over(client, platform):
    report(client, **KEYED)
    report(client, unique_key="two", unique_for="2h")
    run_sql(platform, "UPDATE callboard.unique_holds SET until = now() - interval '1s' WHERE key = 'one'")
    Pruner(platform.retention, RetentionSpans(succeeded=timedelta(days=7), other=timedelta(days=30))).round()
    with platform.database.autocommit() as connection:
        left = connection.exec_driver_sql("SELECT key FROM callboard.unique_holds").scalars().all()
    assert (left, count(platform)) == (["two"], 2)


# ---- replace
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING, JobState.WAITING])
@pytest.mark.parametrize("delay", [None, "1h"])
def test_a_job_that_has_not_begun_gets_the_new_arguments_and_time(client, platform, state, delay):
    held = put(platform, state, attempt=3, errors="[{}]", put_off=2, put_off_reason="unknown")
    before = conflicts("replaced")
    options = {
        "delay": delay, "priority": 0, "tags": ["late"], "max_attempts": 3, "timeout": "5s", "hard_timeout": "9s",
        "limit_key": "t", "min_backoff": "1s", "expires_at": datetime(2999, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    job = report(client, 8, **REPLACE, **options)
    assert job.id == held.id
    expected = "waiting" if state is JobState.WAITING else "scheduled" if delay else "queued"
    assert (job.state, job.kwargs, job.priority, job.tags) == (expected, {"account_id": 8}, 0, ["late"])
    assert (job.max_attempts, job.timeout, job.hard_timeout) == (
        3,
        timedelta(seconds=5),
        timedelta(seconds=9),
    )
    assert (job.attempt, job.errors, job.put_off, job.limit_key) == (0, [{}], 0, "t")
    assert (job.options, job.expires_at) == ({"min_backoff": 1.0}, options["expires_at"])
    assert count(platform) == 1
    assert conflicts("replaced") == before + 1


def test_the_old_token_is_stale_and_the_new_one_runs_the_new_arguments(client, platform, redis_url):
    job = report(client)
    report(client, 8, **REPLACE)
    first = report(client, 1, **REPLACE)
    second = report(client, 2, **REPLACE)
    assert job.id != first.id == second.id
    with redis.Redis.from_url(redis_url) as cache:
        tokens = {member.decode() for member in cache.zrange(platform.transport.queue_key("reports"), 0, -1)}
    assert f"{first.id}:2" in tokens
    with execution(platform) as worker:
        assert worker.claim([(first.id, 0), (first.id, 1)]) == []
        (claimed,) = worker.claim([(first.id, 2)])
    assert claimed.kwargs == {"account_id": 2}


def test_the_key_of_a_running_job_passes_to_a_new_one(client, platform):
    first = report(client, **KEYED)
    before = conflicts("moved")
    with execution(platform) as worker:
        (claimed,) = worker.claim([(first.id, 0)])
        second, third = report(client, 8, **REPLACE), report(client, 9, **REPLACE)
        assert first.id != second.id == third.id
        assert (second.unique_key, third.kwargs, third.state) == ("one", {"account_id": 9}, "queued")
        worker.finish([Finish(claimed.id, claimed.epoch, claimed.claim_id, Verb.COMPLETE, b"1")])
    old = client.get(first.id)
    assert (old.state, old.unique_key, old.kwargs) == ("succeeded", None, {"account_id": 7})
    assert conflicts("moved") == before + 1
    end(platform)
    # The hour that the first took goes on, in the second's name.
    assert report(client, unique_key="one").id == second.id
    assert count(platform) == 2


def test_a_job_of_another_name_or_queue_is_not_replaced(client, platform):
    held = report(client, unique_key="one", queue="other")
    with pytest.raises(Conflict, match="another name or queue"):
        report(client, 8, **REPLACE)
    with pytest.raises(Conflict, match="another name or queue"):
        client.enqueue("take_webhook", queue="other", unchecked=True, **REPLACE)
    assert client.get(held.id) == held


def test_the_last_of_a_batch_is_what_stays(client, platform):
    values = {"name": "build_report", **REPLACE}
    requests = [job_request({**values, "kwargs": {"account_id": number}}) for number in range(20)]
    receipts = enqueue_all(platform, requests, PYTHON)
    assert [receipt.replaced for receipt in receipts] == [False] + [True] * 19
    assert len({receipt.id for receipt in receipts}) == 1
    assert client.get(receipts[0].id).kwargs == {"account_id": 19}


def test_a_replacement_renews_the_period(client, platform):
    first = report(client, **KEYED, delay="1h")
    expire_holds(platform)
    assert report(client, 8, **KEYED, on_conflict="replace", delay="1h").id == first.id
    end(platform)
    assert report(client, unique_key="one").id == first.id


def test_what_is_said_last_is_run_however_many_speak_while_workers_claim(client, platform):
    """Thirty replacements against a worker: afterwards each account has run, or has been replaced by a later
    word.
    """
    report(client, 0, **REPLACE)
    seen = []

    def act(turn):
        if turn % 3:
            return report(client, turn, **REPLACE).id
        with execution(platform) as worker:
            for job in worker.claim_oldest("reports", 5):
                seen.append(job.kwargs["account_id"])
                worker.finish([Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, b"1")])
        return None

    at_once(12, act)
    last = report(client, 99, **REPLACE)
    assert client.get(last.id).kwargs == {"account_id": 99}
    active = "SELECT count(*) FROM callboard.jobs WHERE finished_at IS NULL"
    with platform.database.autocommit() as connection:
        assert connection.exec_driver_sql(active).scalar_one() == 1
    assert len(seen) == len(set(seen))


def test_within_a_transaction_everything_holds_too(client, platform):
    url = url_of(platform).replace("+psycopg", "")
    with closing(psycopg.connect(url)) as own:
        first = report(client, **KEYED, connection=own)
        assert report(client, 8, **REPLACE, connection=own).kwargs == {"account_id": 8}
        own.rollback()
    assert count(platform) == count(platform, "unique_holds") == 0
    assert report(client, **KEYED).id != first.id


# ---- keys made of arguments
# -----------------------------------------------------------------------------------------


def sync_account(account_id: int, month: str = "2026-10") -> None: ...


def declare(platform, rule, limit_by=()):
    schema = describe(sync_account).schema
    kind = JobType(
        "sync_account", "sync", schema, 5, 10, None, "", unique=rule, limit_by=limit_by, hard_timeout=60.0
    )
    platform.catalogue.publish([kind])
    platform.catalogue.forget()


def sync(client, *args, options=None, **kwargs):
    return client.enqueue("sync_account", kwargs, args=list(args), **(options or {}))


def test_a_definition_makes_the_key_of_its_arguments(client, platform):
    declare(platform, UniqueRule(("account_id",), None, "existing"), ("account_id",))
    first = sync(client, 7)
    assert (first.unique_key, first.limit_key) == ("sync_account:account_id=7", "account_id=7")
    assert first.hard_timeout == timedelta(minutes=1)
    assert sync(client, account_id=7, month="2026-11").id == first.id
    assert sync(client, account_id=8).id != first.id
    assert sync(client, account_id=7, options={"unique_key": "own", "limit_key": "mine"}).limit_key == "mine"


def test_the_period_and_the_rule_come_from_the_definition_unless_the_request_says_otherwise(client, platform):
    declare(platform, UniqueRule((), 3600.0, "replace"))
    first = sync(client, account_id=7, options={"delay": "1h"})
    assert sync(client, account_id=7).id == first.id
    assert client.get(first.id).state == "queued"
    with pytest.raises(Conflict):
        sync(client, account_id=7, options={"on_conflict": "reject"})
    end(platform)
    assert sync(client, account_id=7).id == first.id
    second = sync(client, account_id=8, options={"unique_for": "0s"})
    end(platform)
    assert sync(client, account_id=8).id != second.id


def test_a_date_has_the_key_of_its_text(client, platform):
    declare(platform, UniqueRule(("month",), None, "existing"))
    month = datetime(2026, 10, 1, tzinfo=UTC)
    first = sync(client, account_id=7, month=month, options={"unchecked": True})
    assert first.unique_key == 'sync_account:month="2026-10-01T00:00:00+00:00"'


@pytest.mark.parametrize(("on_conflict", "queue"), [("reject", None), ("replace", "other")])
def test_a_rule_that_refuses_does_not_stop_a_schedule_or_a_webhook(client, platform, on_conflict, queue):
    declare(platform, UniqueRule((), None, on_conflict))
    first = sync(client, account_id=7, options={"queue": queue})
    request = job_request({"name": "sync_account", "kwargs": {"account_id": 7}})
    for door in ("schedule", "webhook"):
        assert enqueue_one(platform, request, Source(door)).id == first.id
    with pytest.raises(Conflict):
        enqueue_one(platform, request, PYTHON)
