"""Commands that destroy more than they name: they ask on a terminal, and need --yes without one."""

import os
import signal
import subprocess
import sys

import pytest

from callboard.jobs.postgres.schema import NEEDED, SchemaStatus
from tests.e2e.stage import until

ASKS = [
    ["job", "cancel", "--state", "queued"],
    ["job", "retry", "--state", "cancelled"],
    ["job", "delete", "--state", "cancelled", "--limit", "5", "--json"],
    ["queue", "purge", "reports"],
    ["schedule", "delete", "often"],
    ["webhook", "source", "delete", "gh"],
    ["db", "downgrade", "base"],
    ["db", "downgrade", "0009"],
]


@pytest.mark.parametrize("command", ASKS, ids=" ".join)
def test_without_a_terminal_and_without_yes_a_destructive_command_does_nothing(callboard, enqueued, command):
    waiting, ended = enqueued(), enqueued()
    callboard("job", "cancel", ended)
    callboard("schedule", "create", "often", "--job", "build_report", "--every", "1h", "--unchecked")
    callboard("webhook", "source", "create", "gh", "--scheme", "github", "--job", "take_webhook")
    outcome = callboard(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.error.startswith("this needs --yes without a terminal")
    states = {job["id"]: job["state"] for job in callboard("job", "list", "--json").json["items"]}
    assert states == {waiting: "queued", ended: "cancelled"}
    assert callboard("schedule", "show", "often").code == 0
    assert callboard("webhook", "source", "list").out != ""
    assert callboard("db", "status").code == 0


def test_with_a_closed_stdin_a_destructive_command_refuses_as_without_a_terminal(callboard, enqueued):
    job_id = enqueued()
    environment = {f"CALLBOARD_{key.upper()}": value for key, value in callboard.settings.items()}
    command = f"exec {sys.executable} -m callboard job cancel --state queued <&-"
    ended = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: this needs --yes without a terminal")
    assert callboard("job", "show", job_id, "--json").json["state"] == "queued"


def test_a_dry_run_needs_no_yes(callboard, enqueued):
    enqueued()
    assert callboard("job", "cancel", "--state", "queued", "--dry-run").code == 0
    assert callboard("queue", "purge", "reports", "--dry-run").code == 0


def test_things_that_are_named_need_no_yes(callboard, enqueued):
    job_id = enqueued()
    for verb in ("cancel", "retry", "cancel", "delete"):
        assert callboard("job", verb, job_id).code == 0
    callboard("key", "create", "robot", "--role", "viewer")
    assert callboard("key", "revoke", "robot").code == 0


@pytest.mark.parametrize(
    ("current", "said"),
    [
        (None, "run 'callboard db upgrade'"),
        ("0001", "run 'callboard db upgrade'"),
        ("9999", "the tables are newer than this code"),
    ],
)
def test_the_status_of_tables_that_do_not_fit_exits_with_1(callboard, monkeypatch, current, said):
    monkeypatch.setattr(
        "callboard.jobs.postgres.migrating.Migrations.status", lambda _: SchemaStatus(current)
    )
    outcome = callboard("db", "status")
    assert (outcome.code, outcome.out) == (1, f"{current or 'none'}\n")
    assert said in outcome.err
    told = callboard("db", "status", "--json")
    assert (told.code, told.json["up_to_date"], told.json["needed"]) == (1, False, NEEDED)


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        (["job", "enqueue", "build_report", "--unchecked", "--wait"], signal.SIGINT, 130),
        (["job", "wait", "ID", "--json"], signal.SIGINT, 130),
        (["job", "wait", "ID"], signal.SIGTERM, 143),
    ],
)
def test_an_interrupted_wait_tells_the_id_and_how_to_wait_on(
    callboard, platform, enqueued, command, number, code
):
    job_id = enqueued() if "ID" in command else None
    environment = {f"CALLBOARD_{key.upper()}": value for key, value in callboard.settings.items()}
    with subprocess.Popen(
        [sys.executable, "-m", "callboard", *(job_id if word == "ID" else word for word in command)],
        env={key: value for key, value in os.environ.items() if not key.startswith("CALLBOARD_")} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        # Every waiter subscribes to the announcements.
        until(platform.transport.listened_to)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    (job,) = callboard("job", "list", "--json").json["items"]
    assert (process.returncode, out) == (code, "")
    assert f"job {job['id']} is not stopped; to wait on: callboard job wait {job['id']}\n" in err
    assert job["state"] == "queued"
