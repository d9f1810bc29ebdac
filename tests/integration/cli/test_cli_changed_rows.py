"""Every list and card of the command line, when one row was changed by hand."""

from uuid import UUID

import pytest
from sqlalchemy import text

from tests.changed_rows import SPOILED_JOBS, SPOILED_SCHEDULES, change, unconstrained

ARGS = '{"account_id": 7, "month": "2026-10"}'


_COPY = """
INSERT INTO callboard.schedules (id, name, job, kwargs, every, next_fire_at)
SELECT gen_random_uuid(), :name, job, kwargs, every, next_fire_at FROM callboard.schedules WHERE name = 'good'"""


@pytest.fixture
def unchecked(platform):
    with unconstrained(platform):
        yield


def test_spoiled_schedules_are_listed_as_unreadable_with_the_others(callboard, platform, unchecked):
    create = ("schedule", "create", "good", "--job", "build_report", "--args", ARGS, "--every", "1h")
    assert callboard(*create).code == 0
    for number, assignment in enumerate(SPOILED_SCHEDULES):
        with platform.database.transaction() as connection:
            connection.execute(text(_COPY), {"name": f"s{number:02}"})
        change(platform, "schedules", "name = :name", assignment, name=f"s{number:02}")
    listed = callboard("schedule", "list")
    assert listed.code == 0
    states = [line.split()[1] for line in listed.out.splitlines()[1:] if line[0] in "gs"]
    assert states == ["active", *["unreadable"] * len(SPOILED_SCHEDULES)]
    items = callboard("schedule", "list", "--json").json["items"]
    assert len(items) == 1 + len(SPOILED_SCHEDULES)
    for number, assignment in enumerate(SPOILED_SCHEDULES):
        shown = callboard("schedule", "show", f"s{number:02}")
        assert (shown.code, "unreadable" in shown.out) == (0, True), assignment
    assert "schedules 's00', column" in " ".join(callboard("doctor").out.split())
    assert callboard("schedule", "delete", "s00", "--yes").code == 0


def test_spoiled_jobs_are_listed_shown_and_explained(callboard, platform):
    enqueued = [
        callboard("job", "enqueue", "build_report", "--args", ARGS, "--json").json["id"] for _ in SPOILED_JOBS
    ]
    for job, assignment in zip(enqueued, SPOILED_JOBS, strict=True):
        change(platform, "jobs", "id = :id", assignment, id=UUID(job))
    for command in (("job", "list"), ("queue", "list"), ("doctor",)):
        assert callboard(*command).code == 0
    listed = callboard("job", "list", "--limit", "200", "--json").json["items"]
    assert [job["id"] for job in listed] == enqueued[::-1]
    for job, assignment in zip(enqueued, SPOILED_JOBS, strict=True):
        for verb in ("show", "why", "cancel"):
            assert callboard("job", verb, job).code == 0, (verb, assignment)
    assert callboard("job", "list").code == 0


@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "12345-01-01"])
def test_odd_times_of_other_rows_do_not_break_their_lists(callboard, platform, worker, unchecked, time):
    assert callboard("key", "create", "k", "--role", "viewer").code == 0
    assert callboard("webhook", "source", "create", "hub", "--scheme", "github", "--job", "build_report",
                     "--unchecked").code == 0  # fmt: skip
    odd = f"'{time}'::timestamptz"
    change(platform, "api_keys", "name = 'k'", f"expires_at = {odd}, created_at = {odd}")
    change(platform, "webhook_sources", "name = 'hub'", f"created_at = {odd}, events = ARRAY[NULL, 'push']")
    change(platform, "workers", "true", f"started_at = {odd}, lease_expires_at = {odd}")
    change(platform, "queues", "name = 'reports'", f"created_at = {odd}")
    with platform.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO callboard.webhook_deliveries (id, source_id, external_id, event, received_at,"
                " body_sha256) SELECT gen_random_uuid(), id, 'x', 'push', CAST(:odd AS timestamptz), ''"
                " FROM callboard.webhook_sources"
            ),
            {"odd": time},
        )
    for command in (
        ("key", "list"), ("webhook", "source", "list"), ("webhook", "list"), ("worker", "list"), ("queue", "list"),
    ):  # fmt: skip
        for more in ((), ("--json",)):
            done = callboard(*command, *more)
            assert done.code == 0, (command, done)
    found = " ".join(callboard("doctor").out.split())
    for table in (
        "api_keys 'k'",
        "webhook_sources 'hub'",
        "workers ",
        "queues 'reports'",
        "webhook_deliveries ",
    ):
        assert table in found
