"""What grows by itself is deleted after its retention, and found by its age."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.definitions import repository as job_types_repository
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository import pruning, reading
from callboard.jobs.retention.retention import RetentionSpans
from callboard.jobs.schedules import repository as schedules_repository
from callboard.jobs.schedules.manage import schedule_request
from callboard.jobs.webhooks import repository as webhooks_repository
from callboard.scheduler.pruner import PRUNED, Pruner
from tests.integration.core.factories import count, lease, publish, put_job, run_out, run_sql
from tests.integration.core.plans import Explaining

DAY = timedelta(days=1)
SPANS = RetentionSpans()


def fill(platform, statement, ages, **parameters):
    for age in ages:
        run_sql(platform, statement, age=timedelta(days=age), id=new_id(), **parameters)


def ticks(platform, *ages):
    request = {"name": "beat", "job": "build_report", "every": "2s", "unchecked": True}
    schedule = platform.schedules().create(schedule_request(request))
    fill(
        platform,
        "INSERT INTO callboard.schedule_ticks (schedule_id, nominal_at, decided_at, result)"
        " SELECT :schedule, now() - CAST(:age AS interval), now() - CAST(:age AS interval), 'skipped'"
        " WHERE CAST(:id AS uuid) IS NOT NULL",
        ages,
        schedule=schedule.id,
    )


def deliveries(platform, *ages):
    source = new_id()
    run_sql(
        platform,
        "INSERT INTO callboard.webhook_sources (id, name, scheme, job, secrets)"
        " VALUES (:id, 'hub', 'github', 'build_report', '{x}')",
        id=source,
    )
    fill(
        platform,
        "INSERT INTO callboard.webhook_deliveries (id, source_id, external_id, event, body_sha256, received_at)"
        " VALUES (:id, :source, CAST(:id AS text), 'push', 'x', now() - CAST(:age AS interval))",
        ages,
        source=source,
    )


def test_ticks_and_deliveries_are_deleted_after_their_own_spans(platform):
    ticks(platform, 1, 29, 31, 400)
    deliveries(platform, 1, 29, 31)
    pruned = platform.retention.prune(SPANS)
    assert (pruned.ticks, pruned.deliveries) == (2, 1)
    assert (count(platform, "schedule_ticks"), count(platform, "webhook_deliveries")) == (2, 2)
    pruned = platform.retention.prune(RetentionSpans(ticks=DAY * 2, deliveries=DAY * 30))
    assert (pruned.ticks, pruned.deliveries) == (1, 0)


@pytest.mark.parametrize(("state", "deleted"), [("queued", 0), ("succeeded", 1)])
def test_a_body_is_kept_until_its_job_has_ended(platform, state, deleted):
    deliveries(platform, 31)
    with platform.database.transaction() as connection:
        job = put_job(connection, JobState(state))
    run_sql(platform, "UPDATE callboard.webhook_deliveries SET body = 'x', job_id = :id", id=job.id)
    assert platform.retention.prune(SPANS).deliveries == deleted


def test_all_rows_are_deleted_however_many(platform):
    ticks(platform)
    run_sql(
        platform,
        "INSERT INTO callboard.schedule_ticks (schedule_id, nominal_at, decided_at, result)"
        " SELECT s.id, now() - n * interval '2s', now() - interval '31 days', 'skipped'"
        " FROM callboard.schedules s, generate_series(1, 2500) n",
    )
    assert platform.retention.prune(SPANS).ticks == 2500


def test_log_lines_are_deleted_with_their_job(platform):
    with platform.database.transaction() as connection:
        job = put_job(connection, "succeeded").id
    run_sql(
        platform,
        "INSERT INTO callboard.job_logs (job_id, epoch, line, attempt, logged_at, level, logger, message)"
        " VALUES (:job, 1, 1, 1, now(), 'info', 'x', 'hello')",
        job=job,
    )
    assert platform.retention.prune(SPANS).jobs == 1
    assert count(platform, "job_logs") == 0


def test_counters_that_have_expired_are_deleted(platform):
    platform.counters.add("old", 1, 1)
    platform.counters.add("new", 1, 60_000)
    run_sql(platform, "UPDATE callboard.counters SET expires_at = now() - interval '1s' WHERE key = 'old'")
    assert platform.retention.prune(SPANS).counters == 1
    assert count(platform, "counters") == 1


def not_seen(platform, days):
    run_sql(
        platform, "UPDATE callboard.job_types SET seen_at = now() - CAST(:age AS interval)", age=DAY * days
    )


def test_a_job_type_that_no_live_worker_has_is_deleted_after_its_span(platform):
    publish(platform)
    known = count(platform, "job_types")
    not_seen(platform, 29)
    assert platform.retention.prune(SPANS).job_types == 0
    not_seen(platform, 31)
    assert platform.retention.prune(SPANS).job_types == known


def test_a_job_type_that_a_live_worker_has_is_kept(platform):
    publish(platform)
    worker = lease(platform)
    not_seen(platform, 31)
    platform.retention.prune(SPANS)
    assert [one.type.name for one in platform.catalogue.versions()] == ["build_report"]
    # it counts from the day on which the last worker ended
    run_out(platform, worker)
    assert platform.retention.prune(SPANS).job_types == 0


def test_publishing_a_job_type_that_has_not_changed_records_that_it_is_in_use(platform):
    publish(platform)
    not_seen(platform, 31)
    publish(platform)
    assert platform.retention.prune(SPANS).job_types == 0


def test_the_pruner_counts_what_it_deleted(platform):
    def counted():
        return PRUNED.labels("ticks")._value.get()

    ticks(platform, 31, 32)
    before = counted()
    pruner = Pruner(platform.retention, SPANS)
    assert (pruner.round(), pruner.round()) == (2, 0)
    assert counted() == before + 2


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize(
    ("prune", "table", "index"),
    [
        (schedules_repository.prune, "schedule_ticks", "schedule_ticks_decided"),
        (webhooks_repository.prune, "webhook_deliveries", "webhook_deliveries_received"),
    ],
)
def test_old_rows_are_found_by_their_age(platform, prune, table, index, generic):
    with platform.database.autocommit() as connection:
        explaining = Explaining(connection.connection.driver_connection, generic=generic)
        prune(explaining, DAY, 1000)
    accesses = explaining.plans[0].accesses(table)
    assert {access.index for access in accesses} <= {index, f"{table}_pkey"}
    assert index in {access.index for access in accesses if access.leads or access.limited}


def test_the_types_that_live_workers_have_are_found_without_a_job_being_read(platform):
    with platform.database.autocommit() as connection:
        explaining = Explaining(connection.connection.driver_connection, generic=False)
        job_types_repository.prune(explaining, DAY, 1000)
    # Only a version that is old enough is compared with the jobs that wait.
    assert explaining.plans[0].accesses("jobs") == []


# ---- erasing a person's data
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("args", '["Ada@example.org"]'),
        ("kwargs", '{"to": "ada@EXAMPLE.org"}'),
        ("result", '{"sent": "ada@example.org"}'),
        ("errors", '[{"message": "no such mailbox: ada@example.org"}]'),
        ("progress_note", "mailing ada@example.org"),
        ("unique_key", "welcome-ada@example.org"),
        ("limit_key", "ada@example.org"),
        ("tags", "{customer,ada@example.org}"),
    ],
)
def test_a_search_finds_a_text_wherever_a_job_has_it(platform, column, value):
    with platform.database.transaction() as connection:
        found = put_job(connection, "succeeded", **{column: value}).id
        put_job(connection, "succeeded")
    page = platform.jobs.page(JobFilter(search="ada@example.org"))
    assert [job.id for job in page.items] == [found]


@pytest.mark.parametrize("generic", [False, True])
def test_a_search_reads_log_lines_by_their_job(platform, generic):
    with platform.database.autocommit() as connection:
        explaining = Explaining(connection.connection.driver_connection, generic=generic)
        reading.page(explaining, JobFilter(search="ada"), before=None, limit=50)
    accesses = explaining.plans[0].accesses("job_logs")
    assert [(access.index, access.leads) for access in accesses] == [("job_logs_pkey", True)]


def test_a_search_finds_a_text_in_log_lines(platform):
    with platform.database.transaction() as connection:
        found, other = (put_job(connection, "failed").id for _ in range(2))
        for job, message in ((found, "mail to Ada@Example.org"), (other, "mail to bob@example.org")):
            connection.execute(
                text(
                    "INSERT INTO callboard.job_logs (job_id, epoch, line, attempt, logged_at, level, logger, message)"
                    " VALUES (:job, 1, 1, 1, now(), 'info', 'x', :message)"
                ),
                {"job": job, "message": message},
            )
    page = platform.jobs.page(JobFilter(search="ada@example.org"))
    assert [job.id for job in page.items] == [found]


def test_a_batch_that_takes_too_long_is_deleted_in_smaller_ones(platform, monkeypatch):
    """The log lines of a job are deleted with it, so a batch may be of any size."""
    publish(platform)
    run_sql(
        platform,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_catalog.pg_sleep(0.01); RETURN OLD; END'",
    )
    run_sql(
        platform,
        "CREATE TRIGGER slow BEFORE DELETE ON callboard.jobs FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    with platform.database.transaction() as connection:
        for _ in range(60):
            put_job(connection, JobState.SUCCEEDED)
    prune = pruning.prune

    def limited(connection, **arguments):
        connection.execute(text("SET statement_timeout = '300ms'"))
        try:
            return prune(connection, **arguments)
        finally:
            connection.execute(text("RESET statement_timeout"))

    monkeypatch.setattr(pruning, "prune", limited)
    assert platform.retention.prune(SPANS).jobs == 60
