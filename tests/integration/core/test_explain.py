"""The plans of the hot statements over 200,000 jobs: each reads by the index that is meant for it, never the
table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from callboard.jobs.attempts.log_lines import Portion
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.attempts.repository import (
    claiming,
    ending,
    handing_on,
    lease_rows,
    log_rows,
    progress_rows,
    rescuing,
    serving,
)
from callboard.jobs.attempts.repository.progress_rows import write as write_progress
from callboard.jobs.enqueue.repository import holding, inserting
from callboard.jobs.feed import repository as feed_repository
from callboard.jobs.limits.repository import granting as limits_repository
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import TERMINAL, JobState, Verb
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository import diagnosing, explaining, moving, pruning, queue_rows, reading
from callboard.jobs.schedules import repository as schedules_repository
from tests.integration.core.factories import new_job_of, own_database, url_of
from tests.integration.core.plans import Explaining

# A working platform: much history, a long backlog in one of several queues, some due, some running.
FILL = """
INSERT INTO callboard.jobs (id, name, queue, state, priority, kwargs, attempt, max_attempts, epoch, run_at, enqueued_at,
  started_at, finished_at, expires_at, worker_id, claim_id, unique_key, tags, source)
SELECT callboard.uuid7(), 'job' || n % 7, CASE WHEN n % 5 = 0 THEN 'mail' ELSE 'queue' || n % 4 END, s.state, n % 10,
  jsonb_build_object('account_id', n), CASE WHEN s.state = 'queued' THEN 0 ELSE 1 END, 10, 1,
  now() - n * interval '1 second' + CASE WHEN s.state IN ('scheduled', 'retrying') THEN interval '1 day' ELSE '0' END,
  now() - n * interval '2 seconds', CASE WHEN s.state NOT IN ('queued', 'scheduled', 'waiting') THEN now() END,
  CASE WHEN s.state IN ('succeeded', 'failed', 'cancelled', 'quarantined') THEN now() - n * interval '1 second' END,
  CASE WHEN n % 50 = 0 THEN now() + n * interval '1 second' - interval '5 hours' END,
  CASE WHEN s.state NOT IN ('queued', 'scheduled', 'waiting') THEN md5((n % 8)::text)::uuid END,
  CASE WHEN s.state NOT IN ('queued', 'scheduled', 'waiting') THEN gen_random_uuid() END,
  CASE WHEN n % 20 = 0 THEN 'key-' || n END, CASE WHEN n % 10 = 0 THEN ARRAY['tag' || n % 100] ELSE '{}' END, 'python'
FROM generate_series(1, 200000) n, LATERAL (SELECT CASE
  WHEN n % 100 < 58 THEN 'succeeded' WHEN n % 100 < 60 THEN 'failed' WHEN n % 100 < 61 THEN 'cancelled'
  WHEN n % 1000 = 999 THEN 'quarantined' WHEN n % 100 < 64 THEN 'scheduled' WHEN n % 100 < 65 THEN 'retrying'
  WHEN n % 400 = 65 THEN 'running' WHEN n % 1000 = 66 THEN 'waiting' ELSE 'queued' END AS state) s
"""
YESTERDAY = """
INSERT INTO callboard.jobs (id, name, queue, state, max_attempts, run_at, finished_at, source)
SELECT callboard.uuid7(), 'job1', 'mail', 'succeeded', 10, now(), now(), 'python' FROM generate_series(1, 1000)
"""
OTHERS = """
INSERT INTO callboard.queues (name) SELECT DISTINCT queue FROM callboard.jobs;
INSERT INTO callboard.workers (id, hostname, pid, threads, slots, lease_expires_at)
  SELECT md5(n::text)::uuid, 'host', n, 8, 64, now() + interval '1 day' FROM generate_series(0, 7) n;
INSERT INTO callboard.schedules (id, name, job, cron, next_fire_at)
  SELECT gen_random_uuid(), 'schedule' || n, 'job', '0 0 * * *', now() + (n - 50) * interval '1 minute'
  FROM generate_series(1, 20000) n;
"""
SOME = sorted(new_id() for _ in range(64))
TOKENS = [(job, 1) for job in SOME]
WORKER, CLAIM = new_id(), new_id()
NOW = datetime.now(UTC)
NEW = new_job_of("job1", "mail", key="key-20")
ENDS = [Finish(job, 1, CLAIM, Verb.COMPLETE, b"7") for job in SOME]
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
BY_ID = {"jobs_pkey"}
#: The jobs that workers hold, and by their ids those that have begun.
HELD = {"jobs_running", "jobs_pkey"}
COUNTED = {"jobs_queued", "jobs_due", *HELD}
A_JOB = SimpleNamespace(
    id=SOME[0],
    name="job1",
    queue="mail",
    run_at=datetime(2030, 1, 1, tzinfo=UTC),
    priority=5,
    limit_key="key",
)


@dataclass(frozen=True)
class Hot:
    """A statement, and the indexes through which it may reach jobs; `walks`: in order, as far as its limit."""

    run: Callable[[Any], object]
    indexes: set[str]
    walks: bool = False


def page(*, walks: bool = False, indexes: set[str] = BY_ID, **which: Any) -> Hot:
    return Hot(lambda c: reading.page(c, JobFilter(**which), before=SOME[0], limit=51), indexes, walks=walks)


HOT = {
    "claim": Hot(lambda c: claiming.claim(c, WORKER, CLAIM, TOKENS), BY_ID),
    "claim_free": Hot(lambda c: claiming.claim_free(c, WORKER, CLAIM, TOKENS), BY_ID),
    "complete": Hot(lambda c: ending.finish(c, ENDS), BY_ID),
    "hand_on": Hot(
        lambda c: c.execute(
            handing_on._AFTER,
            {"worker": WORKER, "claim": CLAIM, "queue": "mail", "ended": [str(job) for job in SOME], "most": 64},
        ),
        {"jobs_keyed", "jobs_queued", "jobs_running", *BY_ID},
        walks=True,
    ),
    "finish": Hot(lambda c: ending.finish(c, [end._replace(verb=Verb.FAIL) for end in ENDS]), BY_ID),
    "already_finished": Hot(lambda c: ending.already_finished(c, ENDS), BY_ID),
    "hand_back": Hot(lambda c: ending.hand_back(c, ENDS), BY_ID),
    "progress": Hot(lambda c: write_progress(c, [Progress(job, 1, CLAIM, 0.5, None) for job in SOME]), BY_ID),
    "job_logs_write": Hot(lambda c: log_rows.write(c, [Portion(job, 1, 1, [], 0, 0) for job in SOME]), BY_ID),
    "claimed_by": Hot(lambda c: claiming.claimed_by(c, WORKER, CLAIM), {"jobs_running"}),
    "claim_oldest": Hot(lambda c: claiming.claim_oldest(c, WORKER, CLAIM, "mail", 64), {"jobs_queued", *BY_ID}),
    "queues_seen": Hot(lambda c: serving.served(c, []), {"jobs_queued"}),
    "queues_seen_of_some": Hot(lambda c: serving.served(c, ["mail", "queue1", "none"]), {"jobs_queued"}),
    "heads": Hot(lambda c: feed_repository.heads(c, ["mail", "queue1"], 50), {"jobs_queued"}),
    "rescue": Hot(lambda c: rescuing.rescue(c, [WORKER], None), {"jobs_running", *BY_ID}),
    "overrun": Hot(lambda c: rescuing.overrun(c, WORKER, [(job, "late") for job in SOME]), BY_ID),
    "claim_solo": Hot(lambda c: claiming.claim_solo(c, WORKER, CLAIM, ["job1"], []), {"jobs_solo", *BY_ID}, walks=True),
    "solo_waiting": Hot(lambda c: claiming.solo_waiting(c, [WORKER], [], 2), {"jobs_solo"}, walks=True),
    "forced": Hot(lambda c: lease_rows.forced(c, [WORKER]), {"jobs_running"}),
    "holders": Hot(lambda c: holding.holders(c, ["key-20", "key-40"]), {"jobs_unique_active", *BY_ID}),
    "let_go": Hot(lambda c: holding.let_go(c, "key-20", SOME[0]), {"jobs_unique_active", *BY_ID}),
    "replace": Hot(lambda c: inserting.replace(c, SOME[0], NEW), BY_ID),
    "queued": Hot(lambda c: feed_repository.queued(c, "mail", 500), {"jobs_queued"}),
    "queued_rest": Hot(lambda c: feed_repository.queued(c, "mail", 4500, 500), {"jobs_queued"}),
    "stage": Hot(lambda c: feed_repository.stage(c, 5000), {"jobs_due", *BY_ID}),
    "expire": Hot(lambda c: feed_repository.expire(c, 5000), {"jobs_expiring", *BY_ID}),
    "prune_succeeded": Hot(
        lambda c: pruning.prune(c, frozenset({JobState.SUCCEEDED}), timedelta(days=7), 1000),
        {"jobs_finished", *BY_ID},
    ),
    "prune_other": Hot(
        lambda c: pruning.prune(c, TERMINAL - {JobState.SUCCEEDED}, timedelta(days=30), 1000),
        {"jobs_finished", "jobs_unsuccessful", *BY_ID},
    ),
    "cancel": Hot(lambda c: moving.cancel(c, SOME), BY_ID),
    "rerun": Hot(lambda c: moving.rerun(c, SOME), BY_ID),
    "delete": Hot(lambda c: moving.delete(c, SOME), BY_ID),
    "release": Hot(lambda c: moving.release(c, SOME), BY_ID),
    "cancel_requested": Hot(lambda c: progress_rows.cancel_requested(c, WORKER), {"jobs_running"}),
    "get": Hot(lambda c: reading.get(c, SOME[0]), BY_ID),
    "page": page(),
    "first_page": Hot(
        lambda c: reading.page(c, JobFilter(), before=None, limit=51), BY_ID, walks=True
    ),
    "page_of_failed": page(states=(JobState.FAILED,), indexes={"jobs_unsuccessful", *BY_ID}),
    "page_of_succeeded": page(states=(JobState.SUCCEEDED,)),
    "page_of_running": page(states=(JobState.RUNNING,), indexes={"jobs_running", *BY_ID}, walks=True),
    "page_of_queue": page(queue="mail", indexes={"jobs_names", "jobs_running", *BY_ID}),
    "page_of_name_since": page(name="job1", since=NOW, indexes={"jobs_names", "jobs_running", *BY_ID}),
    "page_until": page(until=NOW, indexes={*BY_ID}),
    "page_of_tag_until": page(tag="tag10", until=NOW, indexes={"jobs_tags", *BY_ID}),
    "page_of_tag": page(tag="tag10", indexes={"jobs_tags", *BY_ID}),
    "limits_sweep": Hot(lambda c: limits_repository.sweep(c, "mail", timedelta(minutes=1)), BY_ID),
    "limits_use": Hot(
        lambda c: c.execute(limits_repository._USE, {"queue": "mail", "period": timedelta(minutes=1)}),
        {"jobs_running"},
        walks=True,
    ),
    "limits_key_use": Hot(
        lambda c: limits_repository.key_use(c, "mail", ["a", "b"], timedelta(minutes=1)), {"jobs_running"}, walks=True
    ),
    "limits_keys": Hot(lambda c: limits_repository.keys(c, "mail", "a", 500), {"jobs_keyed"}),
    "limits_heads": Hot(lambda c: limits_repository.heads(c, "mail", [("a", 5), ("b", 5)]), {"jobs_keyed"}),
    "limits_plain": Hot(lambda c: limits_repository.plain(c, "mail", limits_repository.START, 3000, 500), {"jobs_queued"}),
    "limits_place": Hot(lambda c: limits_repository.place_behind(c, "mail", limits_repository.START, 3000), {"jobs_queued"}),
    "limits_outstanding": Hot(lambda c: limits_repository.outstanding(c, "mail"), BY_ID),
    "look": Hot(lambda c: c.execute(feed_repository._LOOK), {"jobs_queued", "jobs_due", "jobs_expiring"}),
    "queues_gauged": Hot(queue_rows.gauged, COUNTED, walks=True),
    "queue_suspects": Hot(queue_rows.suspects, {"jobs_solo"}, walks=True),
    "suspects": Hot(diagnosing.suspects, {"jobs_solo"}, walks=True),
    "queue_counts": Hot(queue_rows.counts, COUNTED, walks=True),
    "purgeable": Hot(lambda c: queue_rows.purgeable(c, "mail", 1000), {"jobs_queued"}),
    "workers_live": Hot(lease_rows.live, HELD, walks=True),
    "why_surroundings": Hot(lambda c: explaining.surroundings(c, A_JOB), BY_ID),
    "why_servers": Hot(lambda c: explaining.servers(c, A_JOB), {"jobs_running"}),
    "why_ahead": Hot(lambda c: explaining.ahead(c, A_JOB), {"jobs_queued"}),
    "why_use_of_queue": Hot(lambda c: explaining.use(c, A_JOB, 10, by_key=False), {"jobs_running"}, walks=True),
    "why_use_of_key": Hot(lambda c: explaining.use(c, A_JOB, 10, by_key=True), {"jobs_running"}, walks=True),
    "put_off": Hot(diagnosing.put_off, {"jobs_put_off"}, walks=True),
}  # fmt: skip
#: Those that a backlog which has come since the last ANALYZE must not slow down.
OUTRUN = (
    "claim", "claim_free", "complete", "hand_on", "finish", "already_finished", "hand_back", "progress", "cancel", "queued", "claim_oldest", "rescue", "stage",
    "limits_sweep", "limits_use", "limits_key_use", "limits_keys", "limits_heads", "limits_plain", "limits_outstanding",
    "look", "heads", "queues_seen",
)  # fmt: skip


#: So much of the table at once that the planner's own choice is to read it whole; our connections say no.
BY_SETTINGS = (
    "page_of_queue",
    "page_of_name_since",
    "stage",
    "queue_counts",
    "queues_gauged",
    "look",
    "queues_seen",
    "queues_seen_of_some",
)


@pytest.fixture(scope="module")
def filled(database_url):
    """200,000 jobs, and statistics from the day before, when there were hardly any and none was queued."""
    with own_database(database_url, "plans") as platform:
        platform.migrations.upgrade()
        with platform.database.transaction() as connection:
            connection.execute(text("ALTER TABLE callboard.jobs SET (autovacuum_enabled = false)"))
            connection.execute(text(YESTERDAY))
            connection.execute(text("ANALYZE callboard.jobs"))
            connection.execute(text(FILL))
            for statement in OTHERS.split(";\n"):
                connection.execute(text(statement)) if statement else None
        yield platform


@pytest.fixture(scope="module")
def analyzed(filled):
    with filled.database.autocommit() as connection:
        connection.execute(text("VACUUM ANALYZE callboard.jobs"))
        connection.execute(text("ANALYZE callboard.schedules"))
    return filled


@pytest.fixture(scope="module")
def empty(database_url):
    """A connection as the platform opens them, to a table in which there has never been a job."""
    with own_database(database_url, "empty") as platform:
        platform.migrations.upgrade()
        with platform.database.autocommit() as connection:
            yield connection.connection.driver_connection


@pytest.fixture
def plain(filled):
    """A connection with the planner's defaults."""
    url = url_of(filled).replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def ours(filled):
    """A connection as the platform opens them."""
    with filled.database.autocommit() as connection:
        yield connection.connection.driver_connection


def check(connection, name, *, generic):
    hot = HOT[name]
    explaining = Explaining(connection, generic=generic)
    hot.run(explaining)
    accesses = [access for plan in explaining.plans for access in plan.accesses()]
    assert accesses
    assert [access for access in accesses if access.index is None] == []
    assert {access.index for access in accesses} <= hot.indexes
    if not hot.walks:
        assert [access for access in accesses if not access.leads and not access.limited] == []


# The first group comes first: pytest keeps the order, and `analyzed` ends what it is about.


@pytest.mark.parametrize("name", OUTRUN)
@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
def test_a_backlog_that_outran_its_statistics_is_read_by_index(ours, name, generic):
    check(ours, name, generic=generic)


@pytest.mark.parametrize("name", OUTRUN)
@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
def test_a_plan_that_was_made_for_an_empty_table_does_for_a_backlog(empty, name, generic):
    check(empty, name, generic=generic)


@pytest.mark.parametrize("name", ["claim", "finish", "hand_back", "cancel"])
def test_statements_by_id_need_no_fresh_statistics_and_no_settings(plain, name):
    check(plain, name, generic=False)


@pytest.mark.parametrize("name", HOT)
@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
def test_the_platforms_connections_read_jobs_by_index(analyzed, ours, name, generic):
    check(ours, name, generic=generic)


@pytest.mark.parametrize("name", [name for name in HOT if name not in BY_SETTINGS])
def test_the_planner_reads_jobs_by_index_by_itself(analyzed, plain, name):
    check(plain, name, generic=False)


def test_the_ticker_finds_due_schedules_by_index(analyzed, plain):
    explaining = Explaining(plain, generic=False)
    schedules_repository.lock_due(explaining, 100)
    accesses = explaining.plans[0].accesses("schedules")
    assert [(access.index, access.leads) for access in accesses] == [("schedules_due", True)]


def test_a_lease_is_renewed_by_its_key(analyzed, ours):
    explaining = Explaining(ours, generic=False)
    lease_rows.renew(explaining, [WORKER], timedelta(seconds=30), {WORKER: SOME})
    accesses = explaining.plans[0].accesses("workers")
    assert [(access.index, access.leads) for access in accesses] == [("workers_pkey", True)]


@pytest.mark.parametrize("attempt", [None, 2])
def test_lines_of_a_job_are_read_and_trimmed_by_their_key(analyzed, ours, attempt):
    explaining = Explaining(ours, generic=True)
    log_rows.page(explaining, SOME[0], attempt=attempt, after=(1, 7), limit=50)
    log_rows.newest(explaining, SOME[0], attempt=attempt, limit=50)
    log_rows.trim(explaining, [Portion(SOME[0], 1, 1, [], 500, 0)])
    for plan in explaining.plans:
        accesses = plan.accesses("job_logs")
        assert [(access.index, access.leads) for access in accesses] == [("job_logs_pkey", True)]


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("database", ["ours", "empty"])
def test_the_next_job_of_a_key_and_any_job_with_a_key_are_found_by_the_index_of_keys(
    request, database, generic
):
    explaining = Explaining(request.getfixturevalue(database), generic=generic)
    HOT["hand_on"].run(explaining)
    indexes = [access.index for plan in explaining.plans for access in plan.accesses()]
    assert (indexes.count("jobs_keyed"), indexes.count("jobs_queued")) == (2, 1)
