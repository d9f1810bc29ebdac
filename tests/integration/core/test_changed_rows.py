"""Rows that somebody changed by hand: every loop and every list goes on with the others."""

from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import text

from callboard.jobs.errors import Conflict, Unauthorized, Unavailable
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.schedules.ticker import Ticker
from callboard.jobs.webhooks.delivery import Incoming
from callboard.jobs.webhooks.intake import source_request
from callboard.jobs.webhooks.schemes import SCHEMES
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.gauges import Gauges
from tests.changed_rows import (
    NO_OBJECT,
    ODD_SCHEDULES,
    SPOILED_JOBS,
    SPOILED_SCHEDULES,
    change,
    quoted,
    unconstrained,
)
from tests.integration.api_client import SECRET
from tests.integration.core.factories import (
    FakeClock,
    enqueue,
    execution,
    own_database,
    publish,
    put_job,
    run_sql,
)

MANY = 18
SHARED = "it's a secret to everybody"


def _is_refused(assignment: str) -> bool:
    """Whether a constraint can tell. Cron expressions and time zones are read by the scheduler alone."""
    column, _, value = assignment.rpartition(", ")[2].partition(" = ")
    return column not in {"cron", "timezone"} or value == "''"


@pytest.fixture
def unchecked(platform):
    with unconstrained(platform):
        yield


@pytest.fixture
def schedules(platform, unchecked):
    publish(platform)
    made = platform.schedules()
    for number in range(MANY):
        run_sql(
            platform,
            "INSERT INTO callboard.schedules (id, name, job, kwargs, every, overlap,"
            " next_fire_at, created_at) VALUES (gen_random_uuid(), :name, 'build_report',"
            " '{\"account_id\"\\: 7}', '1 min', 'allow_all', now() - interval '1 s', now() - interval '1 s')",
            name=f"s{number:02}",
        )
    return made


def fired(platform):
    with platform.database.autocommit() as connection:
        statement = "SELECT count(DISTINCT source_id) FROM callboard.jobs WHERE source = 'schedule'"
        return connection.execute(text(statement)).scalar_one()


@pytest.mark.parametrize("assignment", SPOILED_SCHEDULES)
def test_one_spoiled_schedule_is_shown_and_does_not_keep_the_others_from_ticking(
    platform, schedules, assignment
):
    clock = FakeClock()
    ticker = Ticker(platform.database, platform.enqueue, clock=clock)
    change(platform, "schedules", "name = 's07'", assignment)
    assert ticker.realign() == 0
    assert len(ticker.tick()) == MANY - 1
    assert fired(platform) == MANY - 1
    assert len(schedules.every()) == MANY
    assert schedules.get("s07").paused_at is None
    problems = [one for one in platform.inspection.problems() if one.table == "schedules"]
    assert {one.key for one in problems} == {"s07"}
    # Once it is mended, it ticks at once: without a restart, and without a pause.
    change(
        platform, "schedules", "name = 's07'",
        "at = NULL, cron = NULL, every = '1 min', timezone = 'UTC', catchup_window = '1 h', args = '[]',"
        " kwargs = '{}', job = 'build_report', queue = NULL, overlap = 'allow_all', catchup = 'latest',"
        " dst_gap = 'shift', priority = NULL, created_at = now() - interval '1 s', next_fire_at = now() - interval '1 s'",
    )  # fmt: skip
    assert len(ticker.tick()) == 1
    assert fired(platform) == MANY
    assert platform.inspection.problems() == []


@pytest.mark.parametrize("assignment", ODD_SCHEDULES)
def test_a_schedule_whose_odd_value_does_no_harm_ticks(platform, schedules, assignment):
    change(platform, "schedules", "name = 's07'", assignment)
    ticker = platform.ticker()
    assert len(ticker.tick()) == MANY
    assert len(schedules.every()) == MANY


@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "12345-01-01"])
def test_a_next_tick_that_is_no_time_is_set_anew_from_the_rule(platform, schedules, time):
    change(platform, "schedules", "name = 's07'", f"next_fire_at = '{time}'::timestamptz")
    ticker = platform.ticker()
    found = platform.feed.look()
    assert found.fires_in is not None
    assert len(ticker.tick()) == MANY - 1
    ticker.realign()
    following = schedules.get("s07").next_fire_at
    assert timedelta(0) < following - platform.feed.look().at <= timedelta(minutes=1)


def test_a_spoiled_schedule_is_tried_again_after_growing_pauses(platform, schedules):
    clock = FakeClock()
    ticker = Ticker(platform.database, platform.enqueue, clock=clock)
    change(platform, "schedules", "name = 's07'", "timezone = 'Mars/Olympus'")
    ticker.tick()
    tried = []
    for second in range(1, 200):
        clock.advance(1)
        before = ticker._set_aside.waiting()
        ticker.tick()
        if not before:
            tried.append(second)
    assert tried[:5] == [1, 3, 7, 15, 31]
    assert max(later - earlier for earlier, later in pairwise(tried)) == 60


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.SCHEDULED, JobState.RUNNING, JobState.RETRYING])
@pytest.mark.parametrize("assignment", SPOILED_JOBS)
def test_one_spoiled_job_does_not_hide_the_others_from_any_list_or_loop(platform, assignment, state):
    publish(platform)
    with execution(platform) as worker:
        with platform.database.transaction() as connection:
            spoiled = put_job(connection, state, worker_id=worker.worker, expires_at=None)
            others = [
                put_job(connection, JobState.QUEUED, worker_id=worker.worker, expires_at=None).id
                for _ in range(5)
            ]
        change(platform, "jobs", "id = :id", assignment, id=spoiled.id)
        feeder, gauges = Feeder(platform, FakeClock()), Gauges(platform.queues)
        page = platform.jobs.page(JobFilter())
        assert {job.id for job in page.items} == {spoiled.id, *others}
        assert platform.jobs.get(spoiled.id).id == spoiled.id
        platform.why.explain(spoiled.id)
        platform.queues.every()
        gauges.round()
        platform.inspection.watch()
        feeder.round()
        feeder.round()
        queues = [queue.name for queue in worker.served_queues(())]
        claimed = [job for queue in queues for job in worker.claim_oldest(queue, 20)]
        assert set(others) <= {job.id for job in claimed}
        assert [job.problem for job in claimed if job.id != spoiled.id] == [None] * 5
        worker.hand_back([job for job in claimed if job.id == spoiled.id])
        platform.workers.end(worker.worker, None)
        assert platform.workers.live() == []


@pytest.mark.parametrize("column", ["started_at", "lease_expires_at", "draining_since"])
@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC"])
def test_one_spoiled_worker_does_not_hide_the_others(platform, column, time):
    publish(platform)
    with execution(platform) as spoiled, execution(platform) as other:
        change(platform, "workers", "id = :id", f"{column} = '{time}'::timestamptz", id=spoiled.worker)
        assert {worker.id for worker in platform.workers.live()} == {spoiled.worker, other.worker}
        assert platform.workers.renew([spoiled.worker, other.worker]) == {spoiled.worker, other.worker}
        platform.inspection.watch()
        platform.queues.gauged()
        platform.workers.shorten()
        change(platform, "workers", "id = :id", "queues = ARRAY[NULL, 'a']", id=spoiled.worker)
        assert ["a"] in [worker.queues for worker in platform.workers.live()]
        platform.workers.reap()


@pytest.mark.parametrize("period", ["1 mon", "-1 hour", "1000000000 days", "0", "0.5 s"])
@pytest.mark.parametrize("column", ["rate", "key_rate"])
def test_a_queue_with_a_spoiled_rate_stays_limited_and_runs_jobs(platform, unchecked, column, period):
    publish(platform)
    run_sql(
        platform, "INSERT INTO callboard.queues (name) VALUES ('reports'), ('mail') ON CONFLICT DO NOTHING"
    )
    enqueue(platform, 2)
    enqueue(platform, 2, queue="mail")
    change(platform, "queues", "name = 'reports'", f"{column} = 2, {column}_period = '{period}'::interval")
    assert {"reports", "mail"} <= {queue.name for queue in platform.queues.every()}
    Gauges(platform.queues).round()
    Feeder(platform, FakeClock()).round()
    with execution(platform) as worker:
        assert len(worker.claim_oldest("reports", 5)) == 2
        assert len(worker.claim_oldest("mail", 5)) == 2
    assert [one.key for one in platform.inspection.problems()] == ["reports"]


@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "12345-01-01"])
def test_a_queue_paused_at_a_time_that_is_none_stays_paused_and_is_shown(platform, unchecked, time):
    run_sql(platform, "INSERT INTO callboard.queues (name) VALUES ('reports'), ('mail')")
    change(platform, "queues", "name = 'reports'", f"paused_at = '{time}'::timestamptz")
    assert [queue.name for queue in platform.queues.every() if queue.paused_at] == ["reports"]
    assert [one.column for one in platform.inspection.problems()] == ["paused_at"]
    platform.queues.resume("reports")
    assert platform.inspection.problems() == []


@pytest.mark.parametrize(
    "assignment",
    [
        *(f"schema = {value}" for value in quoted(NO_OBJECT, "jsonb")),
        *(f"defaults = {value}" for value in quoted(NO_OBJECT, "jsonb")),
        'schema = \'{"x-parameters": 5}\'', 'schema = \'{"properties": 5, "required": 7}\'',
        'schema = \'{"type": "nonsense"}\'', 'defaults = \'{"priority": "x"}\'',
        'defaults = \'{"priority": 99}\'', 'defaults = \'{"max_attempts": null}\'',
        'defaults = \'{"timeout": "1h"}\'', 'defaults = \'{"timeout": 1e300}\'',
        'defaults = \'{"unique": {}}\'', 'defaults = \'{"unique": []}\'', 'defaults = \'{"limit_by": [5]}\'',
        'defaults = \'{"limit_by": 5}\'',
    ],
)  # fmt: skip
def test_one_spoiled_job_type_is_left_out_until_it_is_published_again(platform, assignment):
    publish(platform)
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    extra = JobType("extra", "reports", schema, 5, 10, None, "")
    platform.catalogue.publish([extra])
    change(platform, "job_versions", "name = 'extra'", assignment)
    assert not platform.catalogue.find("extra")
    assert platform.catalogue.find("build_report")
    platform.inspection.watch()
    platform.catalogue.publish([extra])
    platform.catalogue.forget()
    assert platform.catalogue.find("extra")


@pytest.mark.parametrize("column", ["created_at", "expires_at", "revoked_at"])
@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "12345-01-01"])
def test_one_spoiled_key_does_not_hide_the_others_and_can_be_revoked(platform, column, time):
    platform.auth.create("spoiled", "admin")
    platform.auth.create("other", "viewer")
    change(platform, "api_keys", "name = 'spoiled'", f"{column} = '{time}'::timestamptz")
    assert {key.name for key in platform.auth.every()} == {"spoiled", "other"}
    assert [(one.key, one.column) for one in platform.inspection.problems()] == [("spoiled", column)]
    if column != "revoked_at":
        platform.auth.revoke("spoiled")


@pytest.mark.parametrize("assignment", ["digest = ''", "digest = 'ü'", "digest = repeat('x', 1000000)"])
def test_a_key_with_a_broken_digest_lets_nobody_in_and_is_shown(platform, assignment):
    _, token = platform.auth.create("spoiled", "admin")
    change(platform, "api_keys", "name = 'spoiled'", assignment)
    with pytest.raises(Unauthorized):
        platform.auth.authenticate(token)
    assert [one.column for one in platform.inspection.problems()] == ["digest"]


def test_rows_that_are_older_than_the_constraints_survive_the_upgrade_and_can_be_corrected(database_url):
    with own_database(database_url, "changed_rows") as old:
        old.migrations.upgrade()
        old.migrations.downgrade("0008")
        run_sql(
            old,
            "INSERT INTO callboard.schedules (id, name, job, every, created_at)"
            " VALUES (gen_random_uuid(), 'odd', 'build_report', '1 h', 'infinity')",
        )
        run_sql(
            old,
            "INSERT INTO callboard.queues (name, rate, rate_period) VALUES ('odd', 1, '1 mon'), ('good', 1, '1 h')",
        )
        assert old.migrations.upgrade().up_to_date
        assert [(one.table, one.column) for one in old.inspection.problems()] == [
            ("queues", "rate_period"), ("schedules", "created_at"),
        ]  # fmt: skip
        with pytest.raises(Conflict, match="queues_periods_range"):
            old.queues.pause("odd")
        old.queues.pause("good")
        change(old, "queues", "name = 'odd'", "rate_period = '1 day'")
        change(old, "schedules", "name = 'odd'", "created_at = now()")
        assert old.queues.pause("odd").paused_at is not None
        assert old.inspection.problems() == []


@pytest.mark.parametrize("assignment", [one for one in SPOILED_SCHEDULES if _is_refused(one)])
def test_the_constraints_refuse_a_spoiled_schedule(platform, assignment):
    run_sql(
        platform,
        "INSERT INTO callboard.schedules (id, name, job, every)"
        " VALUES (gen_random_uuid(), 's07', 'build_report', '1 h')",
    )
    with pytest.raises(Conflict, match="schedules_"):
        change(platform, "schedules", "name = 's07'", assignment)


@pytest.mark.parametrize("job", ["", "a\nb", "x" * 100_000])
def test_a_source_whose_job_is_no_name_asks_its_sender_to_try_again(platform, unchecked, job):
    intake = platform.intake(SECRET)
    intake.create(
        source_request(
            {"name": "hub", "scheme": "github", "job": "build_report", "secret": SHARED, "unchecked": True}
        )
    )
    change(platform, "webhook_sources", "name = 'hub'", "job = :job", job=job)
    headers = {
        **{name.lower(): value for name, value in SCHEMES["github"].sign(SHARED, b"{}").items()},
        "x-github-event": "push", "x-github-delivery": "d-1", "content-type": "application/json",
    }  # fmt: skip
    incoming = Incoming("hub", headers, b"{}")
    with pytest.raises(Unavailable, match="is not a job's name"):
        intake.receive(incoming)
    assert [one.column for one in platform.inspection.problems()] == ["job"]
    # Once it is mended, it accepts the delivery at once.
    change(platform, "webhook_sources", "name = 'hub'", "job = 'build_report'")
    assert intake.receive(incoming).result == "accepted"
    intake.close()
