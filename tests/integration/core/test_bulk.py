"""Verbs by filter: the preview, the limit, what is left when some cannot be moved, the Python door, the
metric.
"""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from callboard.jobs.client import Client
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate import control
from callboard.jobs.operate.job_filter import JobFilter
from tests.integration.core.factories import claimed, count, enqueue, execution, run_sql, states

REPORTS = JobFilter(queue="reports")


@pytest.fixture
def client(platform, monkeypatch):
    """A client on the test's own platform, which stays open."""
    monkeypatch.setattr(platform, "close", lambda: None)
    with Client.over(platform) as made:
        yield made


@contextmanager
def counted(outcome: str, by: int):
    labels = {"queue": "reports", "job_name": "build_report", "outcome": outcome}

    def value() -> float:
        return REGISTRY.get_sample_value("callboard_jobs_finished_total", labels) or 0.0

    before = value()
    yield
    assert value() - before == by


def test_a_preview_counts_and_touches_nothing(platform):
    jobs = enqueue(platform, 3)
    done = platform.control.bulk(Verb.CANCEL, REPORTS, dry_run=True)
    assert (done.matched, done.changed, done.dry_run, done.complete) == (3, 0, True, True)
    assert states(platform, jobs) == ["queued"] * 3


def test_a_count_that_stopped_says_so(platform, monkeypatch):
    enqueue(platform, 5)
    assert platform.control.bulk(Verb.CANCEL, REPORTS, dry_run=True, limit=5).complete
    preview = platform.control.bulk(Verb.CANCEL, REPORTS, dry_run=True, limit=4)
    assert (preview.matched, preview.complete) == (4, False)
    monkeypatch.setattr(control, "BULK_LIMIT", 3)
    preview = platform.control.bulk(Verb.CANCEL, REPORTS, dry_run=True)
    assert (preview.matched, preview.complete) == (3, False)


def test_the_oldest_go_first_and_the_answer_says_that_more_are_left(platform):
    jobs = enqueue(platform, 5)
    done = platform.control.bulk(Verb.CANCEL, REPORTS, limit=2)
    assert (done.matched, done.changed, done.complete) == (2, 2, False)
    assert states(platform, jobs) == ["cancelled"] * 2 + ["queued"] * 3
    assert platform.control.bulk(Verb.CANCEL, REPORTS).complete


def test_jobs_whose_unique_key_is_taken_stay_behind_and_the_others_run_again(platform):
    jobs = enqueue(platform, 20)
    run_sql(platform, "UPDATE callboard.jobs SET state = 'failed', finished_at = now()")
    for job in (jobs[3], jobs[11]):
        run_sql(platform, "UPDATE callboard.jobs SET unique_key = 'k' WHERE id = :id", id=job)
    enqueue(platform, unique_key="k")
    done = platform.control.bulk(Verb.RERUN, REPORTS)
    assert (done.matched, done.changed) == (20, 18)
    assert states(platform, [jobs[3], jobs[11]]) == ["failed", "failed"]


def test_what_an_operator_cancels_is_counted_by_who_did_it(platform):
    jobs = enqueue(platform, 4)
    with counted("cancel", 1):
        platform.control.cancel(jobs[0])
    with counted("cancel", 0):
        platform.control.cancel(jobs[0])
    with counted("cancel", 3):
        platform.control.bulk(Verb.CANCEL, REPORTS)


def test_a_running_job_that_is_asked_to_stop_is_counted_once_it_stops(platform):
    with execution(platform) as worker:
        (job,) = claimed(platform, worker)
        with counted("cancel", 0):
            platform.control.cancel(job.id)


def test_a_purge_is_counted_too(platform):
    enqueue(platform, 2)
    with counted("cancel", 2):
        platform.queues.purge("reports")


def test_python_has_the_verbs_by_filter(client, platform):
    jobs = enqueue(platform, 3, tags=["night"])
    assert client.bulk("cancel", tag="night", dry_run=True).matched == 3
    assert client.bulk("cancel", state="queued", since="1h", limit=2).changed == 2
    assert client.bulk("cancel", state=["queued", "running"], since=timedelta(hours=1)).changed == 1
    assert client.bulk("retry", state=JobState.CANCELLED, until=datetime(2999, 1, 1, tzinfo=UTC)).changed == 3
    assert states(platform, jobs) == ["queued"] * 3
    client.bulk("cancel", name="build_report")
    client.delete(jobs[0])
    assert client.bulk("delete", queue="reports", search=None).changed == 2
    assert count(platform) == 0


@pytest.mark.parametrize(
    ("verb", "which", "says"),
    [
        ("stop", {"queue": "reports"}, "'stop' is none of cancel, retry, delete"),
        ("cancel", {}, "the filter is empty"),
        ("cancel", {"queue": None}, "the filter is empty"),
        ("cancel", {"colour": "red"}, "colour: not a filter"),
        ("cancel", {"state": "done"}, "state: one of waiting, scheduled"),
        ("cancel", {"state": 7}, "state: one of"),
        ("cancel", {"queue": ""}, "queue: a text of 1 to 200 characters"),
        ("cancel", {"search": "a\0b"}, "search: a text"),
        ("cancel", {"since": "yesterday"}, "since: a time with its zone, or a duration"),
        ("cancel", {"since": datetime(2026, 1, 1)}, "since: a time with its zone"),  # noqa: DTZ001
        ("cancel", {"until": 5}, "until: a time"),
    ],
)
def test_what_python_asks_is_read_strictly(client, verb, which, says):
    with pytest.raises(InvalidInput, match=says):
        client.bulk(verb, **which)


def test_a_limit_out_of_bounds_is_refused(client):
    with pytest.raises(InvalidInput, match="limit"):
        client.bulk("cancel", queue="reports", limit=-1)


@pytest.fixture
def small_windows(monkeypatch):
    """A statement of a search reads two jobs."""
    monkeypatch.setattr("callboard.jobs.operate.search_windows._SIZE", 2)


@pytest.mark.usefixtures("small_windows")
def test_a_verb_with_a_search_goes_through_all_jobs_in_windows(platform):
    for n in range(7):
        enqueue(platform, kwargs={"account_id": n % 3})
    found = JobFilter(search='"account_id": 1')
    assert platform.control.bulk(Verb.CANCEL, found, dry_run=True).matched == 2
    assert platform.control.bulk(Verb.CANCEL, found, limit=1, dry_run=True).complete is False
    assert platform.control.bulk(Verb.CANCEL, found, limit=1).changed == 1
    assert platform.control.bulk(Verb.CANCEL, found).changed == 1
    assert platform.control.bulk(Verb.DELETE, found).changed == 2


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_page_of_a_search_that_ends_early_has_a_cursor(platform, monkeypatch, seconds):
    monkeypatch.setattr("callboard.jobs.operate.listing._SEARCH_FOR", seconds)
    ids = [enqueue(platform, kwargs={"account_id": n % 3})[0] for n in range(7)]
    found, pages, cursor = [], 0, None
    while cursor is not None or not pages:
        page = platform.jobs.page(JobFilter(search='"account_id": 1'), cursor=cursor, limit=2)
        found, pages, cursor = found + [job.id for job in page.items], pages + 1, page.next_cursor
    assert found == [ids[4], ids[1]]
    assert pages == (1 if seconds else 5)
