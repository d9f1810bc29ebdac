"""Sessions: what a server, a database or a role sets does not reach the connections of the platform."""

from contextlib import closing, contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.attempts.job_log_writer import JobLogWriter
from callboard.jobs.attempts.log_lines import LogLine, Portion
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.request import job_request
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.sessions import session_settings
from callboard.jobs.schedules.manage import schedule_request
from tests.integration.core.factories import enqueue_one, execution, publish, run_sql

ODD_TEXT = "é € \U0001f600 'quoted' \\ back"
#: Settings whose value is a list.
LISTS = {"datestyle", "search_path"}
#: What somebody may set for a database or a role: the setting, and the oldest Postgres that knows it.
HOSTILE = {
    "datestyle": ("German, DMY", 14),
    "intervalstyle": ("sql_standard", 14),
    "timezone": ("Asia/Kathmandu", 14),
    "extra_float_digits": ("-15", 14),
    "bytea_output": ("escape", 14),
    "client_encoding": ("LATIN1", 14),
    "default_transaction_isolation": ("serializable", 14),
    "default_transaction_read_only": ("on", 14),
    "default_transaction_deferrable": ("on", 14),
    "statement_timeout": ("1ms", 14),
    "lock_timeout": ("1ms", 14),
    "idle_in_transaction_session_timeout": ("1ms", 14),
    "idle_session_timeout": ("20ms", 14),
    "transaction_timeout": ("2ms", 17),
    "search_path": ("", 14),
    "standard_conforming_strings": ("off", 14),
    "backslash_quote": ("off", 14),
    "client_min_messages": ("error", 14),
    "array_nulls": ("off", 14),
    "transform_null_equals": ("on", 14),
    "row_security": ("off", 14),
    "xmloption": ("document", 14),
    "plan_cache_mode": ("force_custom_plan", 14),
    "enable_indexscan": ("off", 14),
    "enable_nestloop": ("off", 14),
    "enable_sort": ("off", 14),
    "work_mem": ("64kB", 14),
    "session_replication_role": ("replica", 14),
    "synchronous_commit": ("off", 14),
    "default_toast_compression": ("pglz", 14),
    "check_function_bodies": ("off", 14),
    "quote_all_identifiers": ("on", 14),
    "exit_on_error": ("on", 14),
    "gin_fuzzy_search_limit": ("1", 14),
    "jit_above_cost": ("0", 14),
    "lc_messages": ("C", 14),
    "plpgsql.extra_errors": ("all", 14),
}


@contextmanager
def database_with(server_urls, database_url, settings, *, role=False):
    """Set these for the worker's database, or for the role in it; reset them at the end."""
    name = sql.Identifier(urlsplit(database_url).path.strip("/"))
    target = sql.SQL("ROLE CURRENT_USER IN DATABASE {}" if role else "DATABASE {}").format(name)
    # A connection to another database: these settings would strike it, too.
    with psycopg.connect(server_urls.database_url, autocommit=True) as admin:
        try:
            for setting, (value, since) in settings.items():
                if admin.info.server_version >= since * 10_000:
                    written = sql.SQL(value) if setting in LISTS and value else sql.Literal(value)
                    admin.execute(sql.SQL("ALTER {} SET {} = {}").format(target, sql.SQL(setting), written))
            yield
        finally:
            admin.execute(sql.SQL("ALTER {} RESET ALL").format(target))


def walk(platform):
    """Enqueue, claim, retry, finish, list, log, tick: the core path."""
    publish(platform)
    kwargs = {"account_id": 7, "month": ODD_TEXT}
    plain_request = {"name": "build_report", "kwargs": kwargs}
    request = plain_request | {"tags": ["odd é", "b"], "timeout": "1m30s", "unique_key": "k é"}
    job = enqueue_one(platform, job_request(request))
    assert enqueue_one(platform, job_request(request)).existed
    later = enqueue_one(platform, job_request(plain_request | {"delay": "36h"}))
    plain = enqueue_one(platform, job_request(plain_request))
    with execution(platform) as worker:
        [claimed] = worker.claim([(job.id, 0)])
        end = Finish(job.id, claimed.epoch, claimed.claim_id, Verb.RETRY, delay=timedelta(0))
        assert job.id in worker.finish([end])
        platform.feed.stage(100)
        [again] = [one for one in worker.claim_oldest("reports", 10) if one.id == job.id]
        done = Finish(job.id, again.epoch, again.claim_id, Verb.COMPLETE, result=b'{"text": "\xc3\xa9"}')
        assert job.id in worker.finish([done])
    read = platform.jobs.get(job.id)
    assert (read.state, read.kwargs, read.result) == (JobState.SUCCEEDED, kwargs, {"text": "é"})
    assert (read.tags, read.unique_key, read.timeout) == (["odd é", "b"], "k é", timedelta(seconds=90))
    scheduled = platform.jobs.get(later.id)
    assert timedelta(hours=35) < scheduled.run_at - read.enqueued_at < timedelta(hours=37)
    listed = platform.jobs.page(JobFilter(tag="odd é")).items
    assert [one.id for one in listed] == [job.id]
    with closing(JobLogWriter(platform.database)) as words:
        words.write([Portion(plain.id, 1, 1, [LogLine(1, 1.8e9, "info", "shop", ODD_TEXT)], 0, 0)], [])
    assert [line.message for line in platform.job_logs.newest(plain.id, limit=5)] == [ODD_TEXT]
    platform.schedules().create(
        schedule_request(
            {"name": "nightly", "job": "build_report", "kwargs": kwargs, "every": "1m", "overlap": "skip"}
        )
    )
    run_sql(platform, "UPDATE callboard.schedules SET next_fire_at = clock_timestamp()")
    [tick] = platform.ticker().tick()
    assert tick.result == "fired"
    platform.control.cancel(tick.job_id)
    platform.control.delete(tick.job_id)
    assert platform.feed.look().next_in is not None


@pytest.fixture
def walk_with(platform, server_urls, database_url, redis_url):
    """Walk the core path on new connections, while these settings are in force."""

    def walk_them(settings, **options):
        with (
            database_with(server_urls, database_url, settings, **options),
            closing(Platform(sqlalchemy_url(database_url), redis_url)) as made,
        ):
            walk(made)

    return walk_them


@pytest.mark.parametrize("setting", HOSTILE)
def test_a_setting_of_the_database_changes_nothing(walk_with, setting):
    walk_with({setting: HOSTILE[setting]})


def test_all_settings_of_the_database_together_change_nothing(walk_with):
    walk_with(HOSTILE)


def test_all_settings_of_the_role_together_change_nothing(walk_with):
    walk_with(HOSTILE, role=True)


def test_settings_of_the_environment_and_of_the_url_change_nothing(
    platform, database_url, redis_url, monkeypatch
):
    for name, value in {"DATESTYLE": "German", "TZ": "Asia/Kathmandu", "CLIENTENCODING": "LATIN1"}.items():
        monkeypatch.setenv(f"PG{name}", value)
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1")
    separator = "&" if "?" in database_url else "?"
    url = f"{database_url}{separator}options=-c%20intervalstyle%3Dsql_standard%20-c%20work_mem%3D7MB"
    with closing(Platform(sqlalchemy_url(url), redis_url)) as made:
        walk(made)
        with made.database.autocommit() as connection:
            assert connection.execute(text("SHOW work_mem")).scalar_one() == "7MB"


@pytest.mark.parametrize(
    ("given", "kept"), [("remote_apply", "remote_apply"), ("local", "on"), ("off", "on")]
)
def test_a_commit_waits_for_the_disk_at_least(platform, server_urls, database_url, redis_url, given, kept):
    with (
        database_with(server_urls, database_url, {"synchronous_commit": (given, 14)}),
        closing(Platform(sqlalchemy_url(database_url), redis_url)) as made,
        made.database.autocommit() as connection,
    ):
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == kept


def test_a_setting_that_the_role_may_not_set_is_named(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET ROLE pg_monitor")
        connection.commit()
        with pytest.raises(Unavailable, match=r"session_replication_role to 'origin' .it is 'replica'."):
            session_settings.state(connection)


def test_every_setting_that_this_server_knows_has_its_value(platform):
    with platform.database.autocommit() as connection:
        version = connection.execute(text("SHOW server_version_num")).scalar_one()
        for setting in session_settings.SETTINGS:
            if int(version) >= setting.since * 10_000:
                found = connection.execute(text(f"SHOW {setting.name}")).scalar_one()
                assert found.replace(" ", "").lower() == setting.value.replace(" ", "").lower(), setting.name


def test_an_old_server_gets_no_setting_that_it_does_not_know():
    assert "transaction_timeout" not in session_settings.startup_options(16)
    assert "transaction_timeout=0" in session_settings.startup_options(17)
