"""`callboard schedule`."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

DST = json.loads((Path(__file__).parents[2] / "vectors" / "dst.json").read_text())["cases"]
ARGS = '{"account_id": 7, "month": "2026-10"}'


def create(callboard, name: str, *rule: str):
    return callboard("schedule", "create", name, "--job", "build_report", "--args", ARGS, *rule)


def test_a_schedule_is_made_shown_and_listed(callboard):
    made = create(callboard, "nightly", "--cron", "30 2 * * *", "--tz", "Europe/Berlin")
    assert (made.code, made.err) == (0, "")
    shown = callboard("schedule", "show", "nightly")
    assert shown.out == made.out
    for told in (
        "nightly",
        "active",
        "build_report",
        "30 2 * * * (Europe/Berlin)",
        "shift",
        "skip",
        "latest, within 1h",
    ):
        assert told in shown.out
    head, line = callboard("schedule", "list").out.splitlines()
    assert head.split() == ["NAME", "STATE", "JOB", "WHEN", "LAST", "NEXT"]
    assert line.split()[:3] == ["nightly", "active", "build_report"]
    assert len(line) <= 80


def test_the_object_of_a_schedule_has_durations_as_text(callboard):
    made = create(
        callboard, "often", "--every", "90m", "--catchup", "none", "--overlap", "allow_all", "--json"
    ).json
    assert (made["every"], made["cron"], made["catchup_window"], made["kwargs"]) == (
        "1h30m",
        None,
        "1h",
        json.loads(ARGS),
    )
    assert (made["catchup"], made["overlap"]) == ("none", "allow_all")
    (listed,) = callboard("schedule", "list", "--json").json["items"]
    assert listed == made


def test_a_schedule_for_once_ticks_at_its_time(callboard):
    made = create(callboard, "once", "--at", "2040-01-01T10:00:00+01:00", "--json").json
    assert made["next_fire_at"] == "2040-01-01T09:00:00Z"


def test_a_paused_schedule_has_no_next_tick_until_it_is_resumed(callboard):
    create(callboard, "often", "--every", "10m")
    assert callboard("schedule", "pause", "often").err == "schedule often is paused\n"
    assert callboard("schedule", "show", "often", "--json").json["next_fire_at"] is None
    assert "paused" in callboard("schedule", "list").out
    assert callboard("schedule", "resume", "often").err == "schedule often is active\n"
    assert callboard("schedule", "show", "often", "--json").json["next_fire_at"] is not None


def test_ticks_are_listed_with_their_jobs(callboard, platform):
    create(callboard, "often", "--every", "1h")
    assert callboard("schedule", "ticks", "often").err == "the schedule has not ticked yet\n"
    with platform.database.transaction() as connection:
        connection.execute(text("UPDATE callboard.schedules SET next_fire_at = now()"))
    assert len(platform.ticker().tick()) == 1
    tick = callboard("schedule", "ticks", "often", "--json").json["items"][0]
    assert tick["result"] == "fired"
    job = callboard("job", "show", tick["job_id"], "--json").json
    assert (job["source"], job["source_id"]) == ("schedule", "often")
    _, line = callboard("schedule", "ticks", "often").out.splitlines()
    assert line.split()[2:] == ["UTC", "fired", tick["job_id"]]
    assert len(line) <= 80


def test_a_deleted_schedule_is_gone(callboard, monkeypatch):
    create(callboard, "often", "--every", "10m")
    monkeypatch.setattr("callboard.cli.console.output.interactive", lambda: True)
    assert callboard("schedule", "delete", "often", stdin="n\n").code == 1
    assert callboard("schedule", "delete", "often", "--yes").err == "schedule often is deleted\n"
    assert callboard("schedule", "show", "often").code == 3


@pytest.mark.parametrize("case", DST, ids=lambda case: f"{case['date']} {case['cron']}")
def test_preview_knows_daylight_saving(callboard, case):
    outcome = callboard(
        "schedule", "preview", case["cron"], "--tz", case["tz"], "--from", f"{case['date']}T00:00:00Z", "--count", 100,
        "--json",
    )  # fmt: skip
    zone = __import__("zoneinfo").ZoneInfo(case["tz"])
    fires = [
        fire
        for fire in outcome.json["fires"]
        if datetime.fromisoformat(fire).astimezone(zone).date().isoformat() == case["date"]
    ]
    assert fires == case["fires"]


def test_preview_for_people_shows_local_time_beside_utc(callboard):
    outcome = callboard(
        "schedule",
        "preview",
        "30 2 * * *",
        "--tz",
        "Europe/Berlin",
        "--from",
        "2040-01-01T00:00:00Z",
        "--count",
        1,
    )
    head, line = outcome.out.splitlines()
    assert head.split() == ["LOCAL", "UTC"]
    assert line.startswith("Sun 2040-01-01 02:30:00 CET  2040-01-01 01:30:00 UTC  in ")


def test_preview_needs_no_server(callboard):
    outcome = callboard("schedule", "preview", "@daily", "--json", database_url="postgresql://127.0.0.1:1/x")
    assert (outcome.code, len(outcome.json["fires"])) == (0, 10)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["create", "x", "--job", "build_report", "--args", ARGS], 2, "give exactly one of --cron, --every and --at, not none"),
        (["create", "x", "--job", "build_report", "--args", ARGS, "--every", "1h", "--cron", "@daily"], 2, "give exactly one of"),
        (["create", "x", "--job", "build_report", "--every", "1h"], 2, "kwargs.account_id: missing"),
        (["create", "x", "--job", "build_report", "--every", "1h", "--args", "{"], 2, "--args: not JSON"),
        (["create", "x", "--job", "nope", "--every", "1h"], 3, "no job is called 'nope'"),
        (["create", "x", "--every", "1h"], 2, "missing option '--job'"),
        (["create", "x", "--job", "build_report", "--args", ARGS, "--every", "often"], 2, "invalid value for '--every'"),
        (["create", "x", "--job", "build_report", "--args", ARGS, "--cron", "* * *"], 2, "a cron expression has five fields"),
        (["create", "x", "--job", "build_report", "--args", ARGS, "--cron", "@daily", "--tz", "Mars"], 2, "unknown time zone 'Mars'"),
        (["create", "x", "--job", "build_report", "--args", ARGS, "--at", "2001-01-01T00:00:00Z"], 2, "this schedule would never tick"),
        (["create", "a b", "--job", "build_report", "--args", ARGS, "--every", "1h"], 2, "name: "),
        (["create", "taken", "--job", "build_report", "--args", ARGS, "--every", "1h"], 5, "there is already a schedule called 'taken'"),
        (["show", "nope"], 3, "there is no schedule 'nope'"),
        (["pause", "nope"], 3, "there is no schedule 'nope'"),
        (["resume", "nope"], 3, "there is no schedule 'nope'"),
        (["delete", "nope", "--yes"], 3, "there is no schedule 'nope'"),
        (["ticks", "nope"], 3, "there is no schedule 'nope'"),
        (["preview", "61 * * * *"], 2, "'61' is not valid in the minute field of the cron expression"),
        (["preview", "@daily", "--tz", "Europe/Berln"], 2, "unknown time zone 'Europe/Berln': did you mean Europe/Berlin?"),
        (["preview", "@daily", "--from", "now"], 2, "invalid value for '--from': not a time: 'now'"),
        (["preview", "@daily", "--count", "0"], 2, "invalid value for '--count'"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(callboard, options, code, said):
    create(callboard, "taken", "--every", "1h")
    outcome = callboard("schedule", *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(said)
