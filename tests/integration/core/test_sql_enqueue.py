"""callboard.enqueue: the door for everyone who speaks SQL."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.postgres import notices
from tests.integration.core.factories import count, execution, publish, until, url_of

CALL = "SELECT callboard.enqueue('build_report', '{\"account_id\": 7}'"


@pytest.fixture
def sql(platform):
    """A connection as any program has one."""
    publish(platform)
    with psycopg.connect(url_of(platform).replace("+psycopg", "")) as connection:
        yield connection
        connection.rollback()


def ask(connection, statement, parameters=None):
    return connection.execute(statement, parameters).fetchone()[0]


def refusal(connection, statement, kind):
    with pytest.raises(kind) as refused:
        connection.execute(statement)
    connection.rollback()
    return refused.value.diag.message_primary


def test_a_commit_makes_the_job_with_its_types_defaults(sql, platform):
    job_id = ask(sql, CALL + ")")
    assert count(platform) == 0
    sql.commit()
    job = platform.jobs.get(job_id)
    assert (job.state, job.queue, job.priority, job.max_attempts) == ("queued", "reports", 2, 7)
    assert (job.kwargs, job.args, job.timeout) == ({"account_id": 7}, [], timedelta(minutes=10))
    assert (job.source, job.source_id) == ("sql", ask(sql, "SELECT session_user::text"))
    assert (job.attempt, job.tags, job.unique_key) == (0, [], None)
    assert [queue.name for queue in platform.queues.every()] == ["hooks", "reports"]


def test_it_can_be_claimed_as_every_other(sql, platform):
    job_id = ask(sql, CALL + ")")
    sql.commit()
    with execution(platform) as worker:
        assert [job.id for job in worker.claim([(job_id, 0)])] == [job_id]


def test_every_option_is_taken(sql, platform):
    statement = (
        CALL + ", queue => 'other', priority => 0, max_attempts => 1, tags => ARRAY['a'], unique_key => 'k',"
        " run_at => '2900-01-01T00:00:00Z')"
    )
    job_id = ask(sql, statement)
    sql.commit()
    job = platform.jobs.get(job_id)
    assert (job.queue, job.priority, job.max_attempts, job.tags) == ("other", 0, 1, ["a"])
    assert (job.unique_key, job.state, job.run_at) == ("k", "scheduled", datetime(2900, 1, 1, tzinfo=UTC))
    assert platform.queues.get("other").scheduled == 1


def test_a_delay_makes_it_scheduled(sql, platform):
    job_id = ask(sql, CALL + ", delay => interval '1 hour')")
    now = ask(sql, CALL + ", delay => interval '0')")
    sql.commit()
    job = platform.jobs.get(job_id)
    assert job.state == "scheduled"
    assert abs(job.run_at - job.enqueued_at - timedelta(hours=1)) < timedelta(seconds=1)
    assert platform.jobs.get(now).state == "queued"


def test_a_rollback_leaves_nothing(sql, platform):
    ask(sql, CALL + ")")
    sql.rollback()
    assert count(platform) == 0


def test_the_commit_tells_the_feeder(sql, platform):
    queue = f"q{new_id()}"
    with platform.database.autocommit() as ear:
        notices.listen(ear)
        ask(sql, f"{CALL}, queue => '{queue}')")
        assert queue not in notices.heard(ear, 0.0)
        sql.commit()
        until(lambda: queue in notices.heard(ear, 1.0))
        ear.invalidate()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ("'nope'", errors.UndefinedObject, "callboard: no job is called 'nope'"),
        ("'it''s'", errors.UndefinedObject, "callboard: no job is called 'it''s'"),
        ("NULL", errors.InvalidParameterValue, "callboard: kwargs must be a JSON object, and name not null"),
        ("'build_report', NULL", errors.InvalidParameterValue, "callboard: kwargs must be a JSON object, and name not null"),
        ("'build_report', '[]'", errors.InvalidParameterValue, "callboard: kwargs must be a JSON object, and name not null"),
        ("'build_report'", errors.InvalidParameterValue, "callboard: kwargs.account_id is missing for the job build_report"),
        ("'build_report', '{\"account_id\": 7, \"year\": 1}'", errors.InvalidParameterValue,
         "callboard: the job build_report takes no argument year"),
        ("'build_report', '{\"account_id\": \"7\"}'", errors.InvalidParameterValue,
         "callboard: kwargs.account_id of the job build_report must be of type integer"),
        ("'build_report', '{\"account_id\": 7.5}'", errors.InvalidParameterValue,
         "callboard: kwargs.account_id of the job build_report must be of type integer"),
        ("'build_report', '{\"account_id\": null}'", errors.InvalidParameterValue,
         "callboard: kwargs.account_id of the job build_report must be of type integer"),
        ("'build_report', '{\"account_id\": 7, \"month\": 10}'", errors.InvalidParameterValue,
         "callboard: kwargs.month of the job build_report must be of type string"),
        ("'build_report', '{\"account_id\": 1e400}'", errors.InvalidParameterValue,
         "callboard: kwargs.account_id holds a number beyond the range of a double"),
        ("'build_report', '{\"account_id\": 7}', run_at => 'infinity'", errors.InvalidParameterValue,
         "callboard: the job would run outside of the years 1970 to 3000"),
        ("'build_report', '{\"account_id\": 7}', run_at => now(), delay => interval '1s'", errors.InvalidParameterValue,
         "callboard: run_at and delay exclude each other"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_field(sql, platform, arguments, kind, message):
    assert refusal(sql, f"SELECT callboard.enqueue({arguments})", kind) == message
    assert count(platform) == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("priority => 10", "priority lies between 0 (first) and 9"),
        ("priority => -1", "priority lies between 0 (first) and 9"),
        ("max_attempts => 0", "max_attempts lies between 1 and 1000"),
        ("queue => ''", "queue has 1 to 100 characters"),
        ("queue => repeat('q', 101)", "queue has 1 to 100 characters"),
        ("unique_key => ''", "unique_key has 1 to 200 characters"),
        ("unique_key => repeat('k', 201)", "unique_key has 1 to 200 characters"),
        ("limit_key => ''", "limit_key has 1 to 200 characters"),
        ("tags => NULL", "tags are up to 20 texts of 1 to 100 characters"),
        ("tags => '{{a,b},{c,d}}'", "tags are up to 20 texts of 1 to 100 characters"),
        ("tags => ARRAY[E'a\nb']", "tags, unique_key and limit_key hold printable characters only"),
        ("unique_key => E'a\nb'", "tags, unique_key and limit_key hold printable characters only"),
        ("limit_key => E'a\tb'", "tags, unique_key and limit_key hold printable characters only"),
        ("delay => '-1 hour'", "delay lies between 0 and ten years"),
        ("on_conflict => 'explode'", "on_conflict is existing, replace or reject"),
        ("on_conflict => 'replace'", "unique_for and on_conflict need a unique_key"),
        ("unique_for => '1 hour'", "unique_for and on_conflict need a unique_key"),
        ("unique_for => '-1 hour', unique_key => 'k'", "unique_for lies between 0 and ten years"),
        ("timeout => '0'", "timeout must be longer than 0, and not longer than ten years"),
        ("timeout => '9 s', hard_timeout => '8 s'",
         "hard_timeout must be longer than 0, and not shorter than timeout or longer than ten years"),
        ("min_backoff => '-1 s'", "min_backoff and max_backoff lie between 0 and ten years"),
        ("min_backoff => '2 s', max_backoff => '1 s'", "min_backoff must not be longer than max_backoff"),
        ("expires_at => 'infinity'", "expires_at lies between the years 1970 and 3000"),
    ],
)  # fmt: skip
def test_an_option_out_of_bounds_is_refused_in_words(sql, platform, option, message):
    assert refusal(sql, f"{CALL}, {option})", errors.InvalidParameterValue) == f"callboard: {message}"
    assert count(platform) == 0


def test_a_queue_that_http_would_refuse_is_refused_here_too(sql, platform):
    refusal(sql, f"{CALL}, queue => 'a b'||chr(10))", psycopg.Error)
    assert count(platform) == 0


def test_a_whole_number_written_as_a_fraction_is_an_integer(sql):
    assert isinstance(ask(sql, "SELECT callboard.enqueue('build_report', '{\"account_id\": 7.0}')"), UUID)


def test_a_long_text_of_digits_is_a_text(sql):
    assert isinstance(
        ask(
            sql,
            "SELECT callboard.enqueue('any', jsonb_build_object('n', repeat('7', 400)), unchecked => true)",
        ),
        UUID,
    )


def test_a_job_to_come_is_accepted_unchecked(sql, platform):
    job_id = ask(sql, "SELECT callboard.enqueue('to_come', '{\"any\": 1}', unchecked => true)")
    sql.commit()
    job = platform.jobs.get(job_id)
    assert (job.queue, job.priority, job.max_attempts, job.timeout) == ("default", 5, 10, None)


def test_a_unique_key_answers_with_its_holder(sql, platform):
    first = ask(sql, CALL + ", unique_key => 'one')")
    assert ask(sql, CALL + ", unique_key => 'one')") == first
    sql.commit()
    platform.control.cancel(first)
    assert ask(sql, CALL + ", unique_key => 'one')") != first


def test_who_comes_second_waits_for_the_first_and_gets_its_job(sql, platform):
    first = ask(sql, CALL + ", unique_key => 'one')")
    url = url_of(platform).replace("+psycopg", "")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as other:
        second = pool.submit(ask, other, CALL + ", unique_key => 'one')")
        sql.commit()
        assert second.result(10) == first


def test_its_ids_are_uuid7_in_the_order_of_time(sql):
    ids = []
    for _ in range(20):
        before = time.time_ns() // 1_000_000
        ids.append(ask(sql, "SELECT callboard.uuid7()"))
        assert before <= ids[-1].int >> 80 <= time.time_ns() // 1_000_000
    assert {(made.version, made.variant) for made in ids} == {(7, "specified in RFC 4122")}
    assert [made.int >> 80 for made in ids] == sorted(made.int >> 80 for made in ids)
    many = sql.execute("SELECT callboard.uuid7() FROM generate_series(1, 1000)").fetchall()
    assert len({row[0] for row in many}) == 1000
    assert {row[0].version for row in many} == {7}


def test_unchecked_null_checks(sql, platform):
    refusal(sql, "SELECT callboard.enqueue('nobody_knows', unchecked => NULL)", errors.UndefinedObject)
    assert count(platform) == 0
