"""Lines of jobs in the database: written in batches, trimmed, read by keyset, gone with their job."""

from threading import Event
from uuid import UUID

import pytest

from callboard.jobs.attempts.job_log_writer import JobLogWriter
from callboard.jobs.attempts.job_logs import GATHER_LIMIT
from callboard.jobs.attempts.log_lines import LogLine, Portion
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.client import Client
from callboard.jobs.errors import InvalidInput, NotFound
from callboard.jobs.model.basics.ids import new_id
from tests.integration.core.factories import at_once, claimed, count, enqueue, execution, run_sql, states


@pytest.fixture
def words(platform):
    made = JobLogWriter(platform.database)
    yield made
    made.close()


def portion(
    job: UUID, first: int, last: int, *, epoch: int = 1, keep_from: int = 0, attempt: int = 1
) -> Portion:
    lines = [LogLine(n, 1.8e9 + n / 1000, "info", "shop", f"line {n}") for n in range(first, last + 1)]
    return Portion(job, epoch, attempt, lines, keep_from, 0)


def messages(platform, job: UUID, **which) -> list[str]:
    return [line.message for line in platform.job_logs.newest(job, **{"limit": GATHER_LIMIT, **which})]


def test_lines_are_read_as_they_were_written(platform, words):
    (job,) = enqueue(platform)
    words.write([portion(job, 1, 3)], [])
    first = platform.job_logs.newest(job, limit=10)[0]
    assert (first.epoch, first.line, first.attempt) == (1, 1, 1)
    assert (first.level, first.logger, first.message) == ("info", "shop", "line 1")
    assert first.logged_at.timestamp() == pytest.approx(1.8e9 + 0.001)
    assert messages(platform, job) == ["line 1", "line 2", "line 3"]
    assert messages(platform, job, limit=2) == ["line 2", "line 3"]


def test_a_write_that_is_repeated_changes_nothing(platform, words):
    (job,) = enqueue(platform)
    for _ in range(2):
        words.write([portion(job, 1, 3)], [])
    assert count(platform, "job_logs") == 3


def test_older_lines_go_when_newer_ones_need_their_room(platform, words):
    (job,) = enqueue(platform)
    words.write([portion(job, 1, 1000)], [])
    words.write([portion(job, 1001, 1500, keep_from=500), portion(job, 1, 2, epoch=3)], [])
    assert messages(platform, job)[0] == "line 500"
    assert count(platform, "job_logs") == 1001 + 2


def test_lines_of_a_deleted_job_vanish_and_others_are_kept(platform, words):
    (job,) = enqueue(platform)
    words.write([portion(new_id(), 1, 3), portion(job, 1, 3), portion(new_id(), 1, 1)], [])
    assert messages(platform, job) == ["line 1", "line 2", "line 3"]
    assert count(platform, "job_logs") == 3


def test_lines_go_with_their_job(platform, words):
    job, other = enqueue(platform, 2)
    words.write([portion(job, 1, 3), portion(other, 1, 1)], [])
    platform.control.cancel(job)
    platform.control.delete(job)
    assert count(platform, "job_logs") == 1


def test_jobs_may_be_deleted_while_their_lines_are_written(platform):
    jobs = enqueue(platform, 200)
    run_sql(platform, "UPDATE callboard.jobs SET state = 'cancelled', finished_at = now()")

    def work(index: int) -> None:
        if index == 0:
            for job in jobs:
                platform.control.delete(job)
            return
        writer = JobLogWriter(platform.database)
        for first in range(1, 20):
            writer.write([portion(job, first, first) for job in jobs[index::4]], [])
        writer.close()

    at_once(4, work)
    assert states(platform, jobs) == ["gone"] * 200
    assert count(platform, "job_logs") == 0


def test_pages_follow_each_other_in_order(platform, words):
    (job,) = enqueue(platform)
    words.write([portion(job, 1, 5, epoch=1), portion(job, 1, 4, epoch=3, attempt=2)], [])
    seen, cursor = [], None
    while True:
        page = platform.job_logs.page(job, cursor=cursor, limit=4)
        seen += [(line.epoch, line.line) for line in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (3, 1), (3, 2), (3, 3), (3, 4)]
    assert len(platform.job_logs.page(job, attempt=2).items) == 4
    assert messages(platform, job, attempt=7) == []


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "_____________", "A" * 500, "é"])
def test_a_cursor_from_elsewhere_is_refused(platform, cursor):
    (job,) = enqueue(platform)
    with pytest.raises(InvalidInput, match="cursor"):
        platform.job_logs.page(job, cursor=cursor)


def test_a_job_that_is_not_there_has_no_lines(platform):
    with pytest.raises(NotFound):
        platform.job_logs.page(new_id())
    with pytest.raises(NotFound):
        platform.job_logs.newest(new_id(), limit=1)
    with pytest.raises(NotFound):
        list(platform.job_logs.follow(new_id(), None, wait=Event().wait))


def test_who_follows_sees_every_line_until_the_end(platform, words):
    with execution(platform) as worker:
        (job,) = claimed(platform, worker)
        looks = []

        def wait(seconds: float) -> None:
            looks.append(seconds)
            words.write([portion(job.id, len(looks) * 2, len(looks) * 2 + 1)], [])
            if len(looks) == 3:
                run_sql(platform, "UPDATE callboard.jobs SET state = 'succeeded', finished_at = now()")

        words.write([portion(job.id, 1, 1)], [])
        followed = [line.line for line in platform.job_logs.follow(job.id, None, wait=wait)]
    assert followed == [1, 2, 3, 4, 5, 6, 7]
    assert len(looks) == 3


def test_progress_is_fenced_and_its_note_is_made_storable(platform, words):
    with execution(platform) as worker:
        (job,) = claimed(platform, worker)
        words.write([], [Progress(job.id, job.epoch, job.claim_id, 0.5, "half \ud800 \x00 done")])
        words.write([], [Progress(job.id, job.epoch + 1, job.claim_id, 0.9, "late")])
    now = platform.jobs.get(job.id)
    assert (now.progress, now.progress_note) == (0.5, "half ? \ufffd done")


def test_python_reads_the_lines_of_a_job(platform, words, monkeypatch):
    (job,) = enqueue(platform)
    words.write([portion(job, 1, 3), portion(job, 1, 2, epoch=3, attempt=2)], [])
    monkeypatch.setattr(platform, "close", lambda: None)
    with Client.over(platform) as client:
        assert [line.message for line in client.logs(str(job), attempt=2)] == ["line 1", "line 2"]
        assert [(line.attempt, line.line) for line in client.logs(job, limit=3)] == [(1, 3), (2, 1), (2, 2)]
        with pytest.raises(InvalidInput, match="limit"):
            client.logs(job, limit=0)
