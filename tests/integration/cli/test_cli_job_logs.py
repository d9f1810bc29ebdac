"""`callboard job logs`, and what the verbs by filter say of a count that stopped."""

import errno
import json
from threading import Thread
from uuid import UUID

import pytest

from callboard.cli.job import job_verbs
from callboard.jobs.attempts.job_log_writer import JobLogWriter
from callboard.jobs.attempts.log_lines import LogLine, Portion
from callboard.jobs.model.states import Verb
from callboard.jobs.operate import control
from callboard.jobs.operate.job_filter import JobFilter

MISSING = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
def tell(platform):
    """Lines of a job, as a worker writes them: (job id, epoch, attempt, (level, message)...)."""
    words = JobLogWriter(platform.database)

    def write(job: str, epoch: int, attempt: int, *said: tuple[str, str], start: int = 1) -> None:
        lines = [LogLine(n, 1.8e9 + n, level, "shop", text) for n, (level, text) in enumerate(said, start)]
        words.write([Portion(UUID(job), epoch, attempt, lines, 0, 0)], [])

    yield write
    words.close()


def test_lines_stand_under_their_attempt_with_their_time(callboard, enqueued, tell):
    job = enqueued()
    tell(job, 1, 1, ("info", "beginning"), ("error", "cannot write\n  at line 7\nOSError: full"))
    tell(job, 3, 2, ("info", "again \x1b[31m"))
    assert callboard("job", "logs", job).out == (
        "attempt 1 · 2027-01-15 UTC\n"
        "08:00:01  beginning\n"
        "08:00:02  error: cannot write\n"
        "            at line 7\n"
        "          OSError: full\n"
        "attempt 2 · 2027-01-15 UTC\n"
        "08:00:01  again \\x1b[31m\n"
    )


def test_an_attempt_that_began_again_has_a_heading_for_each_beginning(callboard, enqueued, tell):
    job = enqueued()
    tell(job, 1, 1, ("info", "on a worker that died"))
    tell(job, 3, 1, ("info", "on another"))
    assert [line for line in callboard("job", "logs", job).out.splitlines() if "UTC" in line] == [
        "attempt 1 · 2027-01-15 UTC", "attempt 1 · 2027-01-15 UTC",
    ]  # fmt: skip


def test_an_attempt_and_the_newest_lines_can_be_asked_for(callboard, enqueued, tell):
    job = enqueued()
    tell(job, 1, 1, *[("info", f"line {n}") for n in range(5)])
    tell(job, 3, 2, ("info", "other"))
    outcome = callboard("job", "logs", job, "--attempt", 1, "--limit", 2, "--json")
    assert [line["message"] for line in outcome.json["items"]] == ["line 3", "line 4"]
    assert outcome.json["items"][0] == {
        "attempt": 1, "epoch": 1, "line": 4, "logged_at": "2027-01-15T08:00:04Z", "level": "info", "logger": "shop",
        "message": "line 3",
    }  # fmt: skip


def test_a_job_that_logged_nothing_says_so_and_one_that_is_not_there_is_an_error(callboard, enqueued):
    job = enqueued()
    outcome = callboard("job", "logs", job)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", f"job {job} has logged nothing\n")
    assert callboard("job", "logs", job, "--json").json == {"items": [], "next_cursor": None}
    outcome = callboard("job", "logs", MISSING)
    assert (outcome.code, outcome.error) == (3, f"there is no job {MISSING}")


def test_who_follows_sees_what_comes_until_the_job_has_ended(callboard, enqueued, tell, worker):
    job = enqueued()
    claimed = worker.start("reports")
    tell(job, 1, 1, ("info", "before"))

    def go_on() -> None:
        tell(job, 1, 1, ("info", "while it runs"), start=2)
        worker.end(claimed, Verb.COMPLETE)

    later = Thread(target=go_on)
    later.start()
    outcome = callboard("job", "logs", job, "--follow", "--json")
    later.join()
    assert outcome.code == 0
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert [line["message"] for line in lines] == ["before", "while it runs"]


def test_a_count_that_stopped_says_at_least(callboard, enqueued, monkeypatch):
    for _ in range(3):
        enqueued()
    outcome = callboard("job", "cancel", "--queue", "reports", "--dry-run", "--limit", 2)
    assert outcome.err == "the oldest 2 jobs would be cancelled, or asked to stop\n"
    monkeypatch.setattr(control, "BULK_LIMIT", 2)
    monkeypatch.setattr(job_verbs, "_MAX_JOBS", 2)
    outcome = callboard("job", "cancel", "--queue", "reports", "--dry-run")
    assert outcome.err == "at least 2 jobs would be cancelled, or asked to stop\n"
    outcome = callboard("job", "cancel", "--queue", "reports", "--yes")
    assert outcome.err == ("2 jobs cancelled, or asked to stop; more jobs match: run the command again\n")
    assert callboard("job", "cancel", "--queue", "reports", "--dry-run", "--json").json == {
        "matched": 1, "changed": 0, "dry_run": True, "complete": True,
    }  # fmt: skip


def test_a_job_that_is_accepted_and_cannot_be_printed_is_named(callboard, platform, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("callboard.cli.job.job_commands.print_job", full)
    outcome = callboard("job", "enqueue", "send_mail", "--args", '{"to": "ann"}', "--json")
    (job,) = platform.jobs.page(JobFilter()).items
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.error == f"job {job.id} is enqueued, but the output failed: No space left on device"


def test_a_data_folder_that_cannot_be_made_is_a_settings_error(callboard):
    outcome = callboard("job", "list", data_dir="/dev/null/here", database_url="", redis_url="")
    assert outcome.code == 2
    assert outcome.error == (
        "CALLBOARD_DATA_DIR: /dev/null/here cannot be created (Not a directory); set it to a folder that you can write to"
    )
