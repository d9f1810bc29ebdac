"""callboard.enqueue in a session with other settings: the same job, no foreign functions, few rights."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import errors, sql

from callboard.jobs.model.states import JobState
from tests.integration.core.factories import count, publish, url_of

CALL = 'SELECT callboard.enqueue(\'build_report\', \'{"account_id": 7, "month": "é"}\''
#: What docs/how-to/enqueue.md grants.
GRANTS = (
    "GRANT USAGE ON SCHEMA callboard TO {role}",
    "GRANT SELECT ON callboard.job_types, callboard.queues, callboard.unique_holds TO {role}",
    "GRANT INSERT ON callboard.queues TO {role}",
    "GRANT SELECT, INSERT ON callboard.jobs TO {role}",
)
#: For unique_for and on_conflict => 'replace'.
KEY_GRANTS = (
    "GRANT UPDATE, DELETE ON callboard.jobs TO {role}",
    "GRANT INSERT, UPDATE, DELETE ON callboard.unique_holds TO {role}",
)
STRANGERS = """
CREATE SCHEMA stranger;
CREATE FUNCTION stranger.fail() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'a stranger ran'; END $$;
CREATE FUNCTION stranger.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$
  SELECT stranger.fail()::timestamptz $$;
CREATE FUNCTION stranger.jsonb_typeof(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT stranger.fail() $$;
CREATE FUNCTION stranger.length(text) RETURNS int LANGUAGE sql AS $$ SELECT stranger.fail()::int $$;
CREATE FUNCTION stranger.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT stranger.fail() $$;
CREATE FUNCTION stranger.digest(text) RETURNS text LANGUAGE sql AS $$ SELECT stranger.fail() $$;
CREATE FUNCTION stranger.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT stranger.fail()::bytea $$;
CREATE FUNCTION stranger.gen_random_uuid() RETURNS uuid LANGUAGE sql AS $$ SELECT stranger.fail()::uuid $$;
CREATE FUNCTION stranger.equal(text, text) RETURNS boolean LANGUAGE sql AS $$
  SELECT stranger.fail()::boolean $$;
CREATE OPERATOR stranger.= (FUNCTION = stranger.equal, LEFTARG = text, RIGHTARG = text);
CREATE TABLE stranger.jobs (id int);
"""
SESSIONS = {
    "no search_path": "SET search_path = ''",
    "a stranger first": "SET search_path = stranger, pg_catalog",
    "a temporary table": "CREATE TEMP TABLE jobs (id int); CREATE TEMP TABLE queues (name int)",
    "German dates": "SET datestyle = 'German, DMY'; SET intervalstyle = 'sql_standard'",
    "Kathmandu": "SET timezone = 'Asia/Kathmandu'",
    "few digits": "SET extra_float_digits = -15",
    "literals": "SET standard_conforming_strings = off; SET array_nulls = off; SET transform_null_equals = on",
    "serializable": "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "strict plpgsql": "SET plpgsql.extra_errors = 'all'",
    "no row security": "SET row_security = off",
    "LATIN1": "SET client_encoding = 'LATIN1'",
}


@pytest.fixture
def connection(platform):
    publish(platform)
    with psycopg.connect(url_of(platform).replace("+psycopg", "")) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def stranger(connection):
    connection.execute(STRANGERS)
    connection.commit()
    yield
    connection.rollback()
    connection.execute("DROP SCHEMA stranger CASCADE")
    connection.commit()


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.usefixtures("stranger")
def test_the_job_is_the_same_in_every_session(connection, platform, session):
    connection.execute(SESSIONS[session])
    connection.commit()
    call = (
        CALL + ", tags => ARRAY['a'], timeout => '90 seconds', min_backoff => '1.234567 seconds',"
        " unique_key => 'k', unique_for => '1 day')"
    )
    [first] = connection.execute(call).fetchone()
    [again] = connection.execute(call).fetchone()
    connection.commit()
    connection.execute("SET search_path = pg_catalog")
    assert first == again
    job = platform.jobs.get(first)
    assert (job.state, job.queue, job.kwargs) == (JobState.QUEUED, "reports", {"account_id": 7, "month": "é"})
    assert (job.tags, job.timeout, job.unique_key) == (["a"], timedelta(seconds=90), "k")
    assert job.options == {"min_backoff": 1.234567}
    assert job.run_at <= datetime.now(UTC)


def test_a_day_of_delay_has_24_hours_in_every_time_zone(connection, platform):
    """The clocks of Berlin change twice a year: one of these days has 23 hours."""
    connection.execute("SET timezone = 'Europe/Berlin'")
    [job_id] = connection.execute(CALL + ", delay => '300 days')").fetchone()
    connection.commit()
    job = platform.jobs.get(job_id)
    assert (job.run_at - job.enqueued_at) / timedelta(days=300) == pytest.approx(1, abs=1e-6)


def test_a_read_only_transaction_gets_one_clear_error(connection, platform):
    connection.execute("SET TRANSACTION READ ONLY")
    with pytest.raises(errors.ReadOnlySqlTransaction):
        connection.execute(CALL + ")")
    connection.rollback()
    assert count(platform) == 0


def test_a_savepoint_that_is_rolled_back_leaves_nothing(connection, platform):
    connection.execute("SAVEPOINT s")
    connection.execute(CALL + ")")
    connection.execute("ROLLBACK TO s")
    [kept] = connection.execute(CALL + ")").fetchone()
    connection.commit()
    assert count(platform) == 1
    assert platform.jobs.get(kept).state is JobState.QUEUED


def test_a_trigger_and_a_function_with_its_own_path_enqueue(connection, platform):
    connection.execute("""
      CREATE TABLE public.orders (id int);
      CREATE FUNCTION public.ordered() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
        BEGIN PERFORM callboard.enqueue('build_report', '{"account_id": 7}'); RETURN NULL; END $$;
      CREATE TRIGGER ordered AFTER INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.ordered();
      INSERT INTO public.orders VALUES (1), (2);
      DO $$ BEGIN PERFORM callboard.enqueue('build_report', '{"account_id": 7}'); END $$;
    """)
    connection.commit()
    connection.execute("DROP TABLE public.orders; DROP FUNCTION public.ordered")
    connection.commit()
    assert count(platform) == 3


@pytest.fixture
def guest(connection):
    """Become a role that has no rights; yield the function that grants some."""
    [database] = connection.execute("SELECT current_database()").fetchone()
    role = sql.Identifier(f"guest_{database}")
    connection.execute(sql.SQL("CREATE ROLE {role}").format(role=role))

    def grant(statements):
        connection.execute("RESET ROLE")
        for statement in statements:
            connection.execute(sql.SQL(statement).format(role=role))
        connection.execute(sql.SQL("SET ROLE {role}").format(role=role))
        connection.commit()

    grant([])
    yield grant
    connection.rollback()
    connection.execute("RESET ROLE")
    connection.execute(sql.SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=role))
    connection.commit()


def test_the_documented_rights_are_enough_to_enqueue(connection, platform, guest):
    guest(GRANTS)
    calls = (")", ", queue => 'new')", ", delay => '1 hour', unique_key => 'k')", ", unique_key => 'k')")
    ids = [connection.execute(CALL + call).fetchone()[0] for call in calls]
    connection.commit()
    assert ids[2] == ids[3]
    assert count(platform) == 3


def test_the_documented_rights_for_keys_are_enough(connection, platform, guest):
    guest(GRANTS + KEY_GRANTS)
    call = CALL + ", unique_key => 'k', unique_for => '1 day', on_conflict => 'replace', delay => '1 hour')"
    ids = [connection.execute(call).fetchone()[0] for _ in range(2)]
    connection.commit()
    assert ids[0] == ids[1]
    assert count(platform) == 1


@pytest.mark.parametrize("missing", GRANTS)
def test_each_documented_right_is_needed(connection, platform, guest, missing):
    guest([grant for grant in GRANTS if grant != missing])
    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute(CALL + ", queue => 'new', unique_key => 'k')")
    connection.rollback()
    assert count(platform) == 0
