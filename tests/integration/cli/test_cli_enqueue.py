"""`callboard job enqueue` and `job wait`."""

import os
import pwd
import threading
from datetime import UTC, datetime, timedelta

import pytest

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.states import Verb
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.listing import Jobs

#: INTERFACE's job object.
FIELDS = [
    "id",
    "name",
    "queue",
    "state",
    "priority",
    "args",
    "kwargs",
    "attempt",
    "max_attempts",
    "run_at",
    "enqueued_at",
    "started_at",
    "finished_at",
    "progress",
    "progress_note",
    "result",
    "errors",
    "tags",
    "source",
    "source_id",
    "unique_key",
    "worker_id",
    "timeout",
    "cancel_requested_at",
    "crash_count",
    "hard_timeout",
    "options",
    "limit_key",
    "solo",
    "put_off",
    "put_off_reason",
    "request_id",
]
REPORT = '{"account_id": 7, "month": "2026-10"}'


def test_enqueue_prints_the_id_alone_and_the_job_is_committed(callboard, platform):
    outcome = callboard("job", "enqueue", "build_report", "--args", REPORT)
    assert (outcome.code, outcome.err) == (0, "")
    job = platform.jobs.get(outcome.out.strip())
    assert (job.name, job.queue, job.state, job.kwargs) == (
        "build_report",
        "reports",
        "queued",
        {"account_id": 7, "month": "2026-10"},
    )
    assert (job.source, job.source_id) == ("cli", pwd.getpwuid(os.getuid()).pw_name)


def test_enqueue_with_json_prints_the_job_object_with_exactly_its_fields(callboard):
    job = callboard("job", "enqueue", "build_report", "--args", REPORT, "--json").json
    assert list(job) == FIELDS
    assert (job["state"], job["timeout"], job["errors"], job["result"]) == ("queued", "10m", [], None)
    assert job["enqueued_at"].endswith("Z")
    assert datetime.fromisoformat(job["enqueued_at"]).utcoffset() == timedelta(0)


def test_every_option_reaches_the_job(callboard):
    job = callboard(
        "job", "enqueue", "build_report", "--args", '[7, "2026-10"]', "--queue", "mail", "--in", "1h", "--priority", 0,
        "--unique-key", "r-7", "--tag", "a", "--tag", "b", "--max-attempts", 2, "--job-timeout", "90s", "--json",
    ).json  # fmt: skip
    assert (job["args"], job["kwargs"], job["queue"], job["state"]) == (
        [7, "2026-10"],
        {},
        "mail",
        "scheduled",
    )
    assert (job["priority"], job["unique_key"], job["tags"]) == (0, "r-7", ["a", "b"])
    assert (job["max_attempts"], job["timeout"]) == (2, "1m30s")
    assert datetime.fromisoformat(job["run_at"]) - datetime.fromisoformat(job["enqueued_at"]) == timedelta(
        hours=1
    )


def test_every_guard_and_limit_reaches_the_job(callboard, platform):
    outcome = callboard(
        "job", "enqueue", "build_report", "--args", REPORT, "--unique-key", "r-7", "--unique-for", "1h",
        "--on-conflict", "reject", "--limit-key", "tenant-7", "--job-timeout", "90s", "--hard-timeout", "2m",
        "--min-backoff", "1s", "--max-backoff", "1m", "--expires", "2d", "--json",
    )  # fmt: skip
    job = outcome.json
    assert (job["unique_key"], job["limit_key"], job["timeout"], job["hard_timeout"]) == (
        "r-7",
        "tenant-7",
        "1m30s",
        "2m",
    )
    assert job["options"] == {"min_backoff": 1.0, "max_backoff": 60.0}
    stored = platform.jobs.get(job["id"])
    assert abs(stored.expires_at - stored.enqueued_at - timedelta(days=2)) < timedelta(minutes=1)
    card = callboard("job", "show", job["id"]).out
    for label in ("hard timeout", "expires", "unique key", "limit key"):
        assert label in card
    dated = callboard(
        "job", "enqueue", "build_report", "--args", REPORT, "--expires", "2040-01-01T10:00:00+01:00", "--json"
    ).json
    assert platform.jobs.get(dated["id"]).expires_at == datetime(2040, 1, 1, 9, tzinfo=UTC)


def test_a_pending_job_is_replaced_and_a_running_ones_key_passes_on(callboard, platform, worker, enqueued):
    first = enqueued("build_report", "--unique-key", "r-7", "--in", "1h")
    again = ["job", "enqueue", "build_report", "--unique-key", "r-7", "--on-conflict", "replace", "--args"]
    second = callboard(*again, '{"account_id": 8, "month": "2026-11"}')
    assert (second.code, second.out.strip()) == (0, first)
    assert (
        second.err == f"the key r-7 is held by job {first} (queued); its arguments and time were replaced\n"
    )
    assert worker.start("reports").kwargs == {"account_id": 8, "month": "2026-11"}
    third = callboard(*again, REPORT)
    assert (third.code, third.out.strip() != first) == (0, True)
    assert third.err == "the key r-7 was held by a running job, which continues; the new job holds it now\n"


def test_a_time_is_taken_with_its_offset(callboard):
    job = callboard(
        "job", "enqueue", "build_report", "--args", REPORT, "--at", "2040-01-01T10:00:00+01:00", "--json"
    ).json
    assert (job["run_at"], job["state"]) == ("2040-01-01T09:00:00Z", "scheduled")


def test_arguments_come_from_a_file_or_from_stdin(callboard, tmp_path):
    (tmp_path / "args.json").write_text(REPORT)
    from_file = callboard("job", "enqueue", "build_report", "--args", "@args.json", "--json").json
    from_stdin = callboard("job", "enqueue", "build_report", "--args", "-", "--json", stdin=REPORT).json
    assert from_file["kwargs"] == from_stdin["kwargs"] == {"account_id": 7, "month": "2026-10"}


def test_a_taken_key_answers_with_the_job_that_has_it(callboard, enqueued):
    first = enqueued("build_report", "--unique-key", "r-7")
    second = callboard("job", "enqueue", "build_report", "--args", REPORT, "--unique-key", "r-7")
    assert (second.code, second.out.strip()) == (0, first)
    assert second.err == f"the key r-7 is held by job {first} (queued); nothing was enqueued\n"


def test_a_taken_key_is_a_conflict_when_it_is_asked_to_be_one(callboard, enqueued):
    first = enqueued("build_report", "--unique-key", "r-7")
    outcome = callboard(
        "job", "enqueue", "build_report", "--args", REPORT, "--unique-key", "r-7", "--on-conflict", "reject"
    )
    assert (outcome.code, outcome.out) == (5, "")
    assert outcome.error == f"the unique key 'r-7' is held by job {first} (queued)"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["build_reportt"], 3, "no job is called 'build_reportt'; did you mean 'build_report'?"),
        (["build_report"], 2, "kwargs.account_id: missing (and 1 more) (see 'callboard job enqueue build_report --help')"),
        (["build_report", "--args", '{"account_id": "x", "month": "y"}'], 2, "kwargs.account_id: "),
        (["build_report", "--args", '{"account_id": 7'], 2, "--args: not JSON: Expecting ',' delimiter at line 1 column 17"),
        (["build_report", "--args", "7"], 2, "--args: neither an object nor an array"),
        (["build_report", "--args", "[NaN]"], 2, "--args: JSON has no NaN"),
        (["build_report", "--args", '{"x": 1e999}'], 2, "--args: the number 1e999 is beyond the range of a double"),
        (["build_report", "--unique-for", "1h", "--args", REPORT], 2, "unique_for needs a unique_key"),
        (["build_report", "--on-conflict", "explode"], 2, "invalid value for '--on-conflict': 'explode' is not one of"),
        (["build_report", "--job-timeout", "9s", "--hard-timeout", "8s"], 2,
         "--hard-timeout must not be shorter than --job-timeout"),
        (["build_report", "--min-backoff", "9s", "--max-backoff", "8s"], 2,
         "--max-backoff must not be shorter than --min-backoff"),
        (["build_report", "--expires", "soon"], 2, "invalid value for '--expires': not a duration: 'soon'"),
        (["build_report", "--args", "[" * 100_000], 2, "--args: nested too deeply"),
        (["build_report", "--args", "@nowhere.json"], 2, "--args: nowhere.json cannot be read: No such file or directory"),
        (["build_report", "--args", '{"account_id": 7, "month": "\\u0000"}'], 2, "kwargs"),
        (["build_report", "--in", "10x"], 2, "invalid value for '--in': not a duration: '10x' (write it as 30s, 10m,"),
        (["build_report", "--at", "tomorrow"], 2, "invalid value for '--at': not a time: 'tomorrow'"),
        (["build_report", "--at", "2040-01-01"], 2, "invalid value for '--at': the time '2040-01-01' has no UTC offset"),
        (["build_report", "--in", "1h", "--at", "2040-01-01T00:00:00Z"], 2, "--in and --at cannot be used together"),
        (["build_report", "--priority", "10"], 2, "invalid value for '--priority': 10 is not in the range 0<=x<=9"),
        (["build_report", "--timeout", "3s"], 2, "--timeout needs --wait"),
        (["build_report", "--queue", "not a queue"], 2, "queue: a queue name is up to 100 letters"),
        (["build_report", "--tag", ""], 2, "tags[0]: "),
        ([""], 2, "name: a job name is up to 200 letters"),
        ([], 2, "missing argument 'NAME' (see 'callboard job enqueue --help')"),
        (["build_report", "--nope"], 2, "no such option '--nope'"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line_and_nothing_is_enqueued(callboard, platform, options, code, said):
    outcome = callboard("job", "enqueue", *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(said)
    assert callboard("job", "list", "--json").json["items"] == []


def test_an_unknown_job_is_accepted_unchecked(callboard):
    job = callboard("job", "enqueue", "not_yet", "--unchecked", "--args", "[1]", "--json").json
    assert (job["name"], job["queue"], job["args"]) == ("not_yet", "default", [1])


def test_enqueue_needs_no_redis(callboard):
    outcome = callboard("job", "enqueue", "build_report", "--args", REPORT, redis_url="redis://127.0.0.1:1/0")
    assert (outcome.code, outcome.err) == (0, "")


def test_without_a_database_enqueue_says_so(callboard):
    outcome = callboard(
        "job", "enqueue", "build_report", "--args", REPORT, database_url="postgresql://u:geheim@127.0.0.1:1/x"
    )
    assert (outcome.code, outcome.out) == (7, "")
    assert outcome.error.startswith("Postgres does not answer at 127.0.0.1:1/x: ")
    assert "geheim" not in outcome.err


def test_waiting_ends_with_the_finished_job(callboard, platform, worker, enqueued):
    job_id = enqueued()
    done = threading.Timer(
        0.3, lambda: worker.end(worker.start("reports"), Verb.COMPLETE, result=b'{"pages": 12}')
    )
    done.start()
    outcome = callboard("job", "wait", job_id, "--timeout", "20s", "--json")
    done.join()
    assert outcome.code == 0
    assert (outcome.json["state"], outcome.json["result"]) == ("succeeded", {"pages": 12})


def test_waiting_for_a_job_that_fails_exits_with_6_and_shows_it(callboard, worker, enqueued):
    job_id = enqueued()
    worker.end(worker.start("reports"), Verb.FAIL)
    outcome = callboard("job", "wait", job_id, "--json")
    assert outcome.code == 6
    assert outcome.json["state"] == "failed"
    assert outcome.error == f"job {job_id} failed: ValueError: no such account"


def test_waiting_for_a_job_that_was_cancelled_exits_with_6(callboard, platform, enqueued):
    job_id = enqueued()
    platform.control.cancel(job_id)
    outcome = callboard("job", "wait", job_id)
    assert (outcome.code, outcome.error) == (6, f"job {job_id} was cancelled")


def test_waiting_too_long_exits_with_124_and_shows_the_job_as_it_is(callboard):
    outcome = callboard(
        "job", "enqueue", "build_report", "--args", REPORT, "--wait", "--timeout", "50ms", "--json"
    )
    assert outcome.code == 124
    assert outcome.json["state"] == "queued"
    assert outcome.error == f"job {outcome.json['id']} is still queued"


@pytest.mark.parametrize("option", ["--json", "--wait"])
def test_an_outage_after_the_commit_does_not_hide_the_job(callboard, platform, monkeypatch, option):
    def away(*_):
        raise Unavailable("Postgres does not answer")

    monkeypatch.setattr(Jobs, "get", away)
    outcome = callboard("job", "enqueue", "build_report", "--args", REPORT, option)
    (job,) = platform.jobs.page(JobFilter()).items
    assert outcome.code == 7
    assert outcome.error == f"job {job.id} is enqueued, but cannot be shown: Postgres does not answer"


def test_waiting_works_without_redis(callboard, worker, enqueued):
    job_id = enqueued()
    done = threading.Timer(0.3, lambda: worker.end(worker.start("reports"), Verb.COMPLETE))
    done.start()
    outcome = callboard(
        "job", "wait", job_id, "--timeout", "20s", "--json", redis_url="redis://127.0.0.1:1/0"
    )
    done.join()
    assert outcome.json["state"] == "succeeded"


def test_waiting_for_a_job_that_is_not_there_exits_with_3(callboard):
    missing = "01a204f3-1779-7083-a62d-f85f810aa57a"
    outcome = callboard("job", "wait", missing)
    assert (outcome.code, outcome.error) == (3, f"there is no job {missing}")
