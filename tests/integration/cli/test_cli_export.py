"""`callboard export` prints what waits as messages."""

import json


def test_export_prints_one_message_a_line_and_changes_nothing(callboard):
    for n in range(3):
        callboard("job", "enqueue", "exported", "--unchecked", "--queue", "out", "--args", f"[{n}]")
    callboard("job", "enqueue", "exported", "--unchecked", "--queue", "other")
    outcome = callboard("export", "--queue", "out")
    assert outcome.code == 0
    assert [json.loads(line)["args"] for line in outcome.out.splitlines()] == [[0], [1], [2]]
    assert outcome.err == "3 messages exported; the jobs are unchanged\n"
    assert callboard("export", "--queue", "out", "--state", "retrying").out == ""
    assert len(callboard("job", "list", "--state", "queued", "--json").json["items"]) == 4


def test_export_refuses_a_state_in_which_no_job_waits(callboard):
    outcome = callboard("export", "--state", "running")
    assert outcome.code == 2
    assert "running" in outcome.err
