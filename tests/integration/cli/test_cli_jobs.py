"""`callboard job list` and `job show`."""

import os

import pytest
from sqlalchemy import text

from callboard.jobs.model.job import Source
from callboard.jobs.model.request import job_request
from callboard.jobs.model.states import Verb

MISSING = "01a204f3-1779-7083-a62d-f85f810aa57a"


def ids(outcome) -> list[str]:
    assert outcome.code == 0, outcome.err
    return [job["id"] for job in outcome.json["items"]]


def test_the_list_is_newest_first_and_pages_by_cursor(callboard, enqueued):
    made = [enqueued() for _ in range(5)]
    first = callboard("job", "list", "--limit", 3, "--json")
    second = callboard("job", "list", "--limit", 3, "--cursor", first.json["next_cursor"], "--json")
    assert ids(first) + ids(second) == made[::-1]
    assert second.json["next_cursor"] is None


def test_every_filter_narrows_the_list(callboard, platform, enqueued):
    report = enqueued("build_report", "--tag", "nightly")
    mail = enqueued("send_mail")
    later = enqueued("build_report", "--in", "1h")
    platform.control.cancel(mail)
    for options, expected in (
        (["--state", "queued"], [report]),
        (["--state", "queued", "--state", "cancelled"], [mail, report]),
        (["--queue", "mail"], [mail]),
        (["--name", "build_report"], [later, report]),
        (["--tag", "nightly"], [report]),
        (["--search", "ann"], [mail]),
        (["--since", "1h"], [later, mail, report]),
        (["--until", "1h"], []),
        (["--since", "2040-01-01T00:00:00Z"], []),
        (["--state", "running"], []),
    ):
        assert ids(callboard("job", "list", "--json", *options)) == expected, options


def test_the_table_fits_eighty_columns_with_whole_ids(callboard, enqueued):
    job_id = enqueued()
    long = callboard("job", "enqueue", "a" * 200, "--unchecked").out.strip()
    outcome = callboard("job", "list")
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["ID", "STATE", "NAME", "QUEUE", "WHEN"]
    assert lines[1].startswith(f"{long}  queued  aaaaa")
    assert "…" in lines[1]
    assert lines[2].split() == ["attempt", "0/10"]
    assert lines[3].startswith(f"{job_id}  queued  build_report")
    assert lines[4].split() == ["attempt", "0/10"]
    assert all(len(line) <= 80 for line in lines)


def test_a_wide_table_shows_queue_and_attempts_too(callboard, enqueued):
    enqueued()
    callboard.columns = 120
    head, row = callboard("job", "list").out.splitlines()
    assert head.split() == ["ID", "STATE", "NAME", "QUEUE", "ATTEMPT", "WHEN"]
    assert row.split()[2:5] == ["build_report", "reports", "0/10"]


def test_an_empty_list_says_so_on_stderr(callboard):
    outcome = callboard("job", "list")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "no jobs match\n")


def test_more_pages_are_told_on_stderr(callboard, enqueued):
    enqueued(), enqueued()
    outcome = callboard("job", "list", "--limit", 1)
    cursor = callboard("job", "list", "--limit", 1, "--json").json["next_cursor"]
    assert outcome.err == f"next page: --cursor {cursor}\n"


def test_what_comes_from_outside_cannot_steer_the_terminal(callboard):
    job_id = callboard(
        "job", "enqueue", "x", "--unchecked", "--args", '{"a": "\\u001b[31m\\u0007"}'
    ).out.strip()
    assert "\x1b" not in callboard("job", "show", job_id).out
    assert "\x07" not in callboard("job", "show", job_id).out


def test_the_card_of_a_failed_job_tells_its_life(callboard, worker, enqueued):
    job_id = enqueued("build_report", "--tag", "nightly", "--unique-key", "r-7")
    worker.end(worker.start("reports"), Verb.FAIL)
    card = callboard("job", "show", job_id)
    lines = card.out.splitlines()
    assert card.code == 0
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "build_report  failed"
    for told in (
        job_id,
        "reports, priority 5",
        "1 of 10",
        "nightly",
        "r-7",
        "10m",
        "ValueError: no such account",
    ):
        assert told in card.out
    assert "Traceback" not in card.out
    assert "Traceback (most recent call last):" in callboard("job", "show", job_id, "--traceback").out


def test_the_card_of_a_job_names_the_request_that_it_began_with(callboard, platform):
    batch = platform.enqueue.check(job_request({"name": "x", "unchecked": True}), Source("http", "k", "r-7"))
    [job_id] = platform.enqueue.accept(batch).ids
    assert "r-7" in callboard("job", "show", str(job_id)).out
    assert callboard("job", "show", str(job_id), "--json").json["request_id"] == "r-7"


def test_the_card_of_a_job_that_retries_says_when(callboard, worker, enqueued):
    job_id = enqueued()
    worker.end(worker.start("reports"), Verb.RETRY)
    card = callboard("job", "show", job_id).out
    assert "retrying" in card
    assert "(in 2 min)" in card or "(in 3 min)" in card or "(in 179 s)" in card


def test_the_object_of_a_running_job_names_its_worker(callboard, worker, enqueued):
    job_id = enqueued()
    worker.start("reports")
    job = callboard("job", "show", job_id, "--json").json
    assert (job["state"], job["worker_id"], job["attempt"]) == ("running", str(worker.id), 1)
    assert "running" in callboard("job", "show", job_id).out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["show", MISSING], 3, f"there is no job {MISSING}"),
        (["show", "seven"], 2, "invalid value for 'ID': not an id: 'seven' (a UUID is expected)"),
        (["show"], 2, "missing argument 'ID' (see 'callboard job show --help')"),
        (["list", "--state", "done"], 2, "invalid value for '--state': 'done' is not one of"),
        (["list", "--limit", "0"], 2, "invalid value for '--limit': 0 is not in the range 1<=x<=200"),
        (["list", "--cursor", "@"], 2, "the cursor is not one that a list gave out"),
        (["list", "--since", "yesterday"], 2, "invalid value for '--since': not a duration: 'yesterday'"),
        (["lst"], 2, "no such command 'lst'; did you mean 'list'?"),
    ],
)
def test_bad_input_is_refused_in_one_line(callboard, options, code, said):
    outcome = callboard("job", *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(said)


def test_a_succeeded_job_shows_no_progress(callboard, platform, worker, enqueued):
    job_id = enqueued()
    claimed = worker.start("reports")
    with platform.database.transaction() as connection:
        connection.execute(text("UPDATE callboard.jobs SET progress = 0.67, progress_note = 'parcel'"))
    assert "67%  parcel" in callboard("job", "show", job_id).out
    worker.end(claimed, Verb.COMPLETE)
    card = callboard("job", "show", job_id).out
    assert "parcel" in card
    assert "%" not in card


def test_without_a_terminal_nothing_has_a_box_and_no_line_of_a_traceback_is_folded(
    callboard, worker, enqueued, monkeypatch
):
    job_id = enqueued()
    worker.end(worker.start("reports"), Verb.FAIL, message="x" * 500)
    monkeypatch.setattr("callboard.cli.console.output.shutil.get_terminal_size", os.terminal_size)
    card = callboard("job", "show", job_id, "--traceback").out
    assert not set("╭╮╰╯│─") & set(card)
    assert f"ValueError: {'x' * 500}" in card.splitlines()[-2] + card.splitlines()[-1]
