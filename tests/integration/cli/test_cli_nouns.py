"""`callboard queue`, `worker`, `key` and `webhook source`."""

import pytest

from callboard.jobs.webhooks.schemes import SCHEMES


def test_queues_are_listed_with_what_they_hold(callboard, enqueued):
    enqueued(), enqueued(), enqueued("build_report", "--in", "1h")
    reports = next(
        queue for queue in callboard("queue", "list", "--json").json["items"] if queue["name"] == "reports"
    )
    assert (reports["queued"], reports["scheduled"], reports["running"], reports["paused"]) == (
        2,
        1,
        0,
        False,
    )
    lines = callboard("queue", "list").out.splitlines()
    heads = ["QUEUE", "STATE", "QUEUED", "RUNNING", "CLAIMED", "SCHEDULED", "RETRYING", "OLDEST"]
    assert lines[0].split()[:8] == heads
    assert ["reports", "active", "2", "0", "0", "1", "0"] in [line.split()[:7] for line in lines]
    assert all(len(line) <= 80 for line in lines)


def test_a_paused_queue_shows_it_until_it_is_resumed(callboard):
    assert callboard("queue", "pause", "mail").err == "queue mail is paused; it has 0 queued jobs\n"
    assert callboard("queue", "show", "mail", "--json").json["paused"] is True
    assert "paused" in callboard("queue", "show", "mail").out
    assert callboard("queue", "resume", "mail", "--json").json["paused_at"] is None


def test_a_purge_cancels_what_is_queued_and_nothing_else(callboard, enqueued):
    queued, later = enqueued(), enqueued("build_report", "--in", "1h")
    assert callboard("queue", "purge", "reports", "--dry-run").err == "1 job would be cancelled\n"
    outcome = callboard("queue", "purge", "reports", "--yes", "--json")
    assert outcome.json == {"queue": "reports", "matched": 1, "changed": 1, "dry_run": False}
    states = {job["id"]: job["state"] for job in callboard("job", "list", "--json").json["items"]}
    assert states == {queued: "cancelled", later: "scheduled"}


def test_a_purge_asks_on_a_terminal(callboard, enqueued, monkeypatch):
    enqueued()
    monkeypatch.setattr("callboard.cli.console.output.interactive", lambda: True)
    outcome = callboard("queue", "purge", "reports", stdin="n\n")
    assert outcome.code == 1
    assert outcome.err.startswith("cancel 1 queued job of reports? [y/N]: ")


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "purge"])
def test_a_queue_that_is_not_there_exits_with_3(callboard, verb):
    outcome = callboard("queue", verb, "nope", *(["--yes"] if verb == "purge" else []))
    assert (outcome.code, outcome.error) == (3, "there is no queue 'nope'")


def test_workers_are_listed_with_how_busy_they_are(callboard, worker, enqueued):
    enqueued()
    worker.start("reports")
    (shown,) = callboard("worker", "list", "--json").json["items"]
    assert (shown["id"], shown["state"], shown["running"], shown["slots"]) == (str(worker.id), "live", 1, 64)
    callboard.columns = 120
    _, line = callboard("worker", "list").out.splitlines()
    assert line.split()[:5] == [str(worker.id), "live", "4711@stage", "all", "1"]


def test_a_job_that_a_worker_holds_ahead_shows_that_it_has_not_started(callboard, platform, worker, enqueued):
    job = enqueued()
    worker.start("reports")
    assert "not started yet" not in callboard("job", "show", job).out
    platform.workers.renew([worker.id], {worker.id: []})
    assert "not started yet" in callboard("job", "show", job).out
    assert "not started yet" in callboard("job", "why", job).out
    (shown,) = callboard("worker", "list", "--json").json["items"]
    assert (shown["running"], shown["claimed"]) == (0, 1)


def test_without_workers_it_says_how_to_start_one(callboard):
    outcome = callboard("worker", "list")
    assert (outcome.out, outcome.err) == ("", "no worker is running; start one with 'callboard run worker'\n")


def test_a_key_is_restricted_to_a_queue_and_a_job_and_the_list_shows_both(callboard, platform):
    made = callboard("key", "create", "ci", "--role", "viewer", "--queue", "mail", "--job", "shop.send")
    key = platform.auth.authenticate(made.out.strip())
    assert (key.queue, key.job) == ("mail", "shop.send")
    callboard("key", "create", "all", "--role", "viewer")
    (shown_all, shown) = callboard("key", "list", "--json").json["items"]
    assert (shown_all["queue"], shown_all["job"]) == (None, None)
    assert (shown["queue"], shown["job"]) == ("mail", "shop.send")
    head, line_all, line = callboard("key", "list").out.splitlines()
    assert head.split()[4:6] == ["QUEUE", "JOB"]
    assert line_all.split()[4:6] == ["all", "all"]
    assert line.split()[4:6] == ["mail", "shop.send"]


@pytest.mark.parametrize(
    ("option", "name"), [("--queue", "two words"), ("--queue", "a\nb"), ("--job", "a b"), ("--job", "1st")]
)
def test_a_key_for_a_name_that_cannot_be_one_exits_with_2(callboard, option, name):
    outcome = callboard("key", "create", "ci", "--role", "viewer", option, name)
    assert outcome.code == 2
    assert outcome.error.startswith(f"{option[2:]}: a {option[2:]} name is up to ")


def test_a_new_key_is_printed_alone_and_works_until_it_is_revoked(callboard, platform):
    made = callboard("key", "create", "ci", "--role", "operator", "--queue", "mail", "--expires", "90d")
    assert made.err == "operator key ci is created; save it now, it is not shown again\n"
    key = platform.auth.authenticate(made.out.strip())
    assert (key.name, key.role, key.queue) == ("ci", "operator", "mail")
    assert (key.expires_at - key.created_at).days in {89, 90}
    listed = callboard("key", "list")
    assert made.out.strip() not in listed.out
    assert listed.out.splitlines()[1].split()[:4] == ["ci", key.prefix, "operator", "active"]
    assert callboard("key", "revoke", "ci").err == f"key ci ({key.prefix}) is revoked\n"
    assert "revoked" in callboard("key", "list").out


def test_a_new_key_with_json_has_its_token(callboard, platform):
    made = callboard("key", "create", "ci", "--role", "ADMIN", "--json").json
    assert platform.auth.authenticate(made["token"]).role == made["role"] == "admin"
    (listed,) = callboard("key", "list", "--json").json["items"]
    assert (listed["name"], "token" in listed, "digest" in listed) == ("ci", False, False)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["create", "x", "--role", "king"], 2, "invalid value for '--role': 'king' is not one of"),
        (["create", "x"], 2, "missing option '--role'"),
        (["create", "", "--role", "viewer"], 2, "a key's name has 1 to 100 printable characters"),
        (
            ["create", "x", "--role", "viewer", "--expires", "soon"],
            2,
            "invalid value for '--expires': not a duration",
        ),
        (["create", "taken", "--role", "viewer"], 5, "there is already a key called 'taken'"),
        (["revoke", "nope"], 3, "there is no key 'nope' to revoke"),
    ],
)
def test_bad_input_for_a_key_is_refused_in_one_line(callboard, options, code, said):
    callboard("key", "create", "taken", "--role", "viewer")
    outcome = callboard("key", *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(said)


def test_a_new_source_prints_its_secret_alone_and_says_where_it_listens(callboard):
    made = callboard(
        "webhook", "source", "create", "gh", "--scheme", "github", "--job", "take_webhook", port="9999"
    )
    assert made.code == 0
    assert SCHEMES["github"].clean_secret(made.out) == made.out.strip()
    assert made.err == "source gh receives deliveries at http://127.0.0.1:9999/webhooks/gh\n"
    listed = callboard("webhook", "source", "list")
    assert listed.out.splitlines()[1].split()[:4] == ["gh", "github", "take_webhook", "all"]
    assert made.out.strip() not in listed.out
    assert callboard("webhook", "source", "delete", "gh", "--yes").err == "source gh is deleted\n"
    assert callboard("webhook", "source", "list").out == ""


def test_a_source_takes_a_secret_from_stdin_and_its_events(callboard):
    secret = "0123456789abcdefghij"
    made = callboard(
        "webhook", "source", "create", "gh", "--scheme", "github", "--job", "take_webhook", "--event", "push",
        "--event", "release", "--secret", "-", "--json", stdin=f"{secret}\n",
    ).json  # fmt: skip
    assert (made["secret"], made["events"], made["path"]) == (secret, ["push", "release"], "/webhooks/gh")
    (listed,) = callboard("webhook", "source", "list", "--json").json["items"]
    assert (listed["name"], "secret" in listed, "secrets" in listed) == ("gh", False, False)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (
            ["create", "x", "--scheme", "carrier-pigeon", "--job", "take_webhook"],
            2,
            "no scheme is called 'carrier-pigeon'",
        ),
        (["create", "x", "--scheme", "github", "--job", "nope"], 3, "no job is called 'nope'"),
        (["create", "x", "--scheme", "github", "--job", "send_mail"], 2, "kwargs."),
        (["create", "a b", "--scheme", "github", "--job", "take_webhook"], 2, "name: "),
        (
            ["create", "taken", "--scheme", "github", "--job", "take_webhook"],
            5,
            "there is already a webhook source called 'taken'",
        ),
        (["delete", "nope", "--yes"], 3, "there is no webhook source 'nope'"),
    ],
)
def test_bad_input_for_a_source_is_refused_in_one_line(callboard, options, code, said):
    callboard("webhook", "source", "create", "taken", "--scheme", "github", "--job", "take_webhook")
    outcome = callboard("webhook", "source", *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(said)
