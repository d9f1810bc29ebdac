"""`callboard queue limit`."""

import pytest


def test_a_limit_is_set_changed_shown_and_taken_away(callboard):
    outcome = callboard("queue", "limit", "mail", "--concurrency", 3, "--rate", "100/60s")
    assert outcome.err == "queue mail: 3 at once, 100/1m\n"
    limits = callboard("queue", "limit", "mail", "--rate", "none", "--key-rate", "5/s", "--json").json[
        "limits"
    ]
    assert limits == {"concurrency": 3, "rate": None, "key_concurrency": None, "key_rate": "5/1s"}
    assert callboard("queue", "show", "mail", "--json").json["limits"] == limits
    outcome = callboard("queue", "limit", "mail", "--clear", "--key-concurrency", 1)
    assert outcome.err == "queue mail: each key 1 at once\n"
    assert callboard("queue", "limit", "mail", "--clear").err == "queue mail: no limits\n"


def test_what_is_taken_is_shown_with_the_queue(callboard, enqueued, worker, platform):
    enqueued(), enqueued()
    worker.start("reports")
    callboard("queue", "limit", "reports", "--concurrency", 3, "--rate", "5/1h")
    shown = callboard("queue", "show", "reports")
    assert "1 of 3 at once: 1 running, 0 about to start" in shown.err
    assert "0 of 5/1h started" in shown.err
    assert "3 at once, 5/1h" in callboard("queue", "list").out or callboard.columns < 100


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--concurrency", "0"),
        ("--concurrency", "1000001"),
        ("--concurrency", "many"),
        ("--key-concurrency", "-1"),
        ("--rate", "often"),
        ("--rate", "5/2d"),
        ("--key-rate", "1000001/1m"),
    ],
)
def test_a_limit_that_does_not_fit_is_a_usage_error_of_one_line(callboard, options):
    outcome = callboard("queue", "limit", "mail", *options)
    assert outcome.code == 2
    assert outcome.error


def test_an_impossible_name_is_refused(callboard):
    assert callboard("queue", "limit", "a b", "--clear").code == 2
