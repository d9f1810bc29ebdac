"""Every list and card of the command line, when one row was changed by hand."""

from uuid import UUID

import pytest
from sqlalchemy import text

from tests.changed_rows import SPOILED_JOBS, SPOILED_SCHEDULES, change, unconstrained

ARGS = '{"account_id": 7, "month": "2026-10"}'


@pytest.fixture
def unchecked(platform):
    with unconstrained(platform):
        yield


@pytest.mark.parametrize("assignment", SPOILED_SCHEDULES)
def test_a_spoiled_schedule_is_listed_as_unreadable_with_the_others(
    callboard, platform, unchecked, assignment
):
    for name in ("a", "b", "c"):
        made = callboard("schedule", "create", name, "--job", "build_report", "--args", ARGS, "--every", "1h")
        assert made.code == 0
    change(platform, "schedules", "name = 'b'", assignment)
    listed = callboard("schedule", "list")
    assert listed.code == 0
    states = dict(line.split()[:2] for line in listed.out.splitlines()[1:] if line[:1] in "abc")
    assert states == {"a": "active", "b": "unreadable", "c": "active"}
    assert [each["name"] for each in callboard("schedule", "list", "--json").json["items"]] == ["a", "b", "c"]
    shown = callboard("schedule", "show", "b")
    assert shown.code == 0
    assert "unreadable" in shown.out
    assert callboard("schedule", "show", "b", "--json").code == 0
    doctor = callboard("doctor")
    assert "schedules 'b', column" in " ".join(doctor.out.split())
    assert callboard("schedule", "delete", "b", "--yes").code == 0


@pytest.mark.parametrize("assignment", SPOILED_JOBS)
def test_a_spoiled_job_is_listed_and_shown(callboard, platform, assignment):
    for _ in range(3):
        assert callboard("job", "enqueue", "build_report", "--args", ARGS).code == 0
    items = callboard("job", "list", "--json").json["items"]
    spoiled = items[1]["id"]
    change(platform, "jobs", "id = :id", assignment, id=UUID(spoiled))
    for command in (
        ("job", "list"), ("job", "list", "--json"), ("job", "show", spoiled), ("job", "show", spoiled, "--json"),
        ("job", "why", spoiled), ("job", "why", spoiled, "--json"), ("queue", "list"), ("doctor",),
        ("job", "cancel", spoiled), ("job", "retry", spoiled), ("job", "list"),
    ):  # fmt: skip
        done = callboard(*command)
        assert done.code == 0, (command, done)
    assert len(callboard("job", "list", "--json").json["items"]) == 3


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
