"""callboard.enqueue and unique keys: the same as at every other door, to the letter of a derived key."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors

from callboard.jobs.client import Client
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.model.derived_keys import derived_key
from callboard.jobs.model.job_type import JobType, UniqueRule
from tests.integration.core.factories import at_once, count, publish, run_sql, url_of

CALL = "SELECT callboard.enqueue('build_report', '{\"account_id\": 7}'"
OTHER = "SELECT callboard.enqueue('build_report', '{\"account_id\": 8}'"
HELD = ", unique_key => 'one', unique_for => '1 hour')"
REPLACE = ", unique_key => 'one', on_conflict => 'replace')"
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=60)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | WORDS


def sync_account(account_id: int, month: str = "2026-10", *, force: bool = False) -> None: ...


SCHEMA = describe(sync_account).schema


@pytest.fixture
def sql(platform):
    """A connection as any program has one, each statement a transaction by itself."""
    publish(platform)
    with psycopg.connect(url_of(platform).replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


def ask(connection, statement):
    return connection.execute(statement).fetchone()[0]


def derived(connection, schema, kwargs, by):
    statement = "SELECT callboard.derived_key(%s, %s, %s)"
    values = [orjson.dumps(value).decode() for value in (schema, kwargs, by)]
    return connection.execute(statement, values).fetchone()[0]


def end(platform):
    run_sql(
        platform, "UPDATE callboard.jobs SET state = 'failed', finished_at = now() WHERE finished_at IS NULL"
    )


@pytest.mark.parametrize("by", [[], ["month"], ["force", "account_id"], ["nothing"]])
@pytest.mark.parametrize(
    "kwargs",
    [
        {"account_id": 7}, {"account_id": 7, "month": "2026-10"}, {"account_id": None, "force": True}, {},
        {"account_id": -(2**63)}, {"account_id": 2**64 - 1}, {"account_id": 7.0}, {"account_id": -0.0},
        {"month": 'a"b\\c,d=e'}, {"month": "\x01\x1f\b\t\n\f\r\x7f"}, {"month": "ä€😀\u2028\u0085"}, {"month": ""},
        {"month": "x" * 200}, {"Zed": 1, "alpha": 2, "ä": 3, "_": 4}, {"month": "😀" * 70}, {"month": "\U00010000\uffff"},
    ],
)  # fmt: skip
def test_both_sides_write_the_same_key(sql, kwargs, by):
    assert derived(sql, SCHEMA, kwargs, by) == derived_key(SCHEMA, [], kwargs, by)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kwargs=st.dictionaries(WORDS, SCALARS, max_size=4), default=SCALARS)
def test_both_sides_write_the_same_key_of_anything(sql, kwargs, default):
    schema: dict[str, Any] = {"properties": {"d": {"default": default}, "other": True}}
    for by in ([], [*kwargs, "d"]):
        assert derived(sql, schema, kwargs, by) == derived_key(schema, [], kwargs, by)


@pytest.mark.parametrize("value", ["7.5", "[7]", "{}", "1e300"])
def test_of_a_fraction_a_list_or_an_object_sql_makes_no_key(sql, value):
    with pytest.raises(errors.InvalidParameterValue, match=r"kwargs.x is a fraction, a list or an object"):
        sql.execute(f"SELECT callboard.derived_key('{{}}', '{{\"x\": {value}}}', '[\"x\"]')")


def test_a_definitions_rule_holds_here_too(sql, platform):
    rule = UniqueRule(("account_id",), 3600.0, "existing")
    kind = JobType(
        "sync_account",
        "sync",
        SCHEMA,
        5,
        10,
        5.0,
        "",
        unique=rule,
        limit_by=("account_id",),
        hard_timeout=60.0,
    )
    platform.catalogue.publish([kind])
    first = ask(sql, "SELECT callboard.enqueue('sync_account', '{\"account_id\": 7}')")
    job = platform.jobs.get(first)
    assert (job.unique_key, job.limit_key) == ("sync_account:account_id=7", "account_id=7")
    assert (job.timeout, job.hard_timeout) == (timedelta(seconds=5), timedelta(minutes=1))
    end(platform)
    assert Client.over(platform).enqueue("sync_account", {"account_id": 7, "month": "2026-11"}).id == first
    assert ask(sql, "SELECT callboard.enqueue('sync_account', '{\"account_id\": 8}')") != first


def test_a_long_name_and_a_long_key_are_one_digest_on_both_sides(sql, platform):
    name = "n" * 150
    kind = JobType(name, "sync", SCHEMA, 5, 10, None, "", unique=UniqueRule((), None, "existing"))
    platform.catalogue.publish([kind])
    kwargs = {"account_id": 7, "month": "m" * 60}
    first = ask(sql, f"SELECT callboard.enqueue('{name}', '{orjson.dumps(kwargs).decode()}')")
    job = Client.over(platform).enqueue(name, kwargs)
    assert job.id == first
    assert (job.unique_key or "").startswith("sha256:")


def test_every_new_option_is_taken(sql, platform):
    job = platform.jobs.get(
        ask(
            sql,
            CALL
            + ", unique_key => 'one', unique_for => '1 hour', on_conflict => 'reject', limit_key => 't', timeout => '5 s',"
            " hard_timeout => '9 s', expires_at => '2900-01-01T00:00:00Z', min_backoff => '1 s', max_backoff => '1 min')",
        )
    )
    assert (job.limit_key, job.timeout, job.hard_timeout) == ("t", timedelta(seconds=5), timedelta(seconds=9))
    assert job.options == {"min_backoff": 1, "max_backoff": 60}
    assert job.expires_at == datetime(2900, 1, 1, tzinfo=UTC)
    assert count(platform, "unique_holds") == 1


def test_the_arguments_by_position_are_the_old_ones(sql, platform):
    values = "'other', NULL, interval '1 hour', 3, 'one', ARRAY['a'], 2, false"
    job = platform.jobs.get(ask(sql, f"{CALL}, {values})"))
    assert (job.queue, job.state, job.priority, job.unique_key) == ("other", "scheduled", 3, "one")
    assert (job.tags, job.max_attempts) == (["a"], 2)


def test_a_key_is_held_for_its_period_at_every_door(sql, platform):
    first = ask(sql, CALL + HELD)
    end(platform)
    client = Client.over(platform)
    assert ask(sql, OTHER + HELD) == ask(sql, OTHER + REPLACE) == first
    assert ask(sql, OTHER + ", unique_key => 'one')") == first
    assert client.enqueue("build_report", {"account_id": 9}, unique_key="one").id == first
    with pytest.raises(errors.UniqueViolation, match=f"held by job {first}"):
        ask(sql, OTHER + ", unique_key => 'one', on_conflict => 'reject')")
    run_sql(platform, "UPDATE callboard.unique_holds SET until = now() - interval '1s'")
    assert ask(sql, OTHER + HELD) != first


def test_a_job_that_has_not_begun_is_replaced(sql, platform):
    first = ask(sql, CALL + ", delay => '1 hour', unique_key => 'one')")
    assert ask(sql, OTHER + ", priority => 1, tags => ARRAY['b']" + REPLACE) == first
    job = platform.jobs.get(first)
    assert (job.state, job.kwargs, job.priority, job.tags) == ("queued", {"account_id": 8}, 1, ["b"])
    with pytest.raises(errors.UniqueViolation, match="another name or queue"):
        ask(sql, OTHER + ", queue => 'other'" + REPLACE)


def test_the_key_of_a_running_job_passes_to_a_new_one(sql, platform):
    first = ask(sql, CALL + HELD)
    run_sql(
        platform,
        "UPDATE callboard.jobs SET state = 'running', started_at = now(), worker_id = id, claim_id = id",
    )
    second = ask(sql, OTHER + REPLACE)
    assert ask(sql, OTHER + REPLACE) == second != first
    jobs = {job.id: job for job in platform.jobs.get_many([first, second])}
    assert (jobs[first].unique_key, jobs[second].unique_key) == (None, "one")
    end(platform)
    assert ask(sql, CALL + ", unique_key => 'one')") == second
    assert count(platform) == 2


def door(platform, number) -> Callable[[], Any]:
    client, options = Client.over(platform), {"unique_key": "one", "unique_for": "1h"}
    if number % 2:
        return lambda: client.enqueue("build_report", {"account_id": number}, **options).id
    url = url_of(platform).replace("+psycopg", "")

    def by_sql():
        with psycopg.connect(url) as connection:
            return ask(connection, CALL + HELD)

    return by_sql


def test_fifty_at_once_at_two_doors_make_one_job(sql, platform):
    def act(turn):
        if turn % 10 == 9:
            end(platform)
        return door(platform, turn)()

    assert len(set(at_once(50, act))) == 1
    assert count(platform) == count(platform, "unique_holds") == 1


def test_replacements_at_once_leave_one_job_with_one_of_their_arguments(sql, platform):
    def act(turn):
        with psycopg.connect(url_of(platform).replace("+psycopg", "")) as connection:
            return ask(
                connection, f"SELECT callboard.enqueue('build_report', '{{\"account_id\": {turn}}}'{REPLACE}"
            )

    (only,) = set(at_once(20, act))
    assert platform.jobs.get(only).kwargs["account_id"] in range(20)
    assert count(platform) == 1
