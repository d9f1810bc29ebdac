"""What an attempt logs, before it is written: bounded, numbered, in words, without secrets; and what waits
for it.
"""

import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from uuid import uuid4

import click
import orjson
import pytest
import structlog

from callboard.cli.job.job_log_commands import folded
from callboard.config import log_capture
from callboard.config.logging import configure_for_jobs
from callboard.jobs.attempts.context import RunningJob, current_job, job_log_fields
from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.attempts.log_lines import LONGEST_LINE, MOST_LINES, LogLines, Portion
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.current import enter, leave
from callboard.jobs.model.outcomes import Cancel
from callboard.workers.report.job_log_flusher import JobLogFlusher
from callboard.workers.report.job_log_handler import JobLogHandler

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def job_running(told: list[RunningJob] | None = None, request_id: str | None = None) -> RunningJob:
    claimed = ClaimedJob(
        new_id(),
        3,
        uuid4(),
        "build_report",
        "reports",
        5,
        "[]",
        "{}",
        2,
        10,
        None,
        NOW,
        NOW,
        NOW,
        None,
        None,
        0,
        request_id=request_id,
    )
    return RunningJob(claimed, None, ([] if told is None else told).append, None)


class Words:
    """Keeps what is written; away as often as it is told to be."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.portions: list[Portion] = []
        self.reports: list[Progress] = []

    def write(self, portions: list[Portion], reports: list[Progress]) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("not now")
        self.portions += portions
        self.reports += reports

    def close(self) -> None: ...


class Flusher:
    def __init__(self) -> None:
        self.ended: list[Any] = []

    def put(self, attempt: Any) -> None:
        self.ended.append(attempt)


class Ended:
    def __init__(self, running: RunningJob) -> None:
        self.running = running


# ---- the buffer
# ----------------------------------------------------------------------------------------------------


def lines_of(number: int, message: str = "line {}") -> tuple[LogLines, list[LogLines]]:
    registered: list[LogLines] = []
    lines = LogLines(new_id(), 1, 1, registered.append)
    add(lines, number, message)
    return lines, registered


def add(lines: LogLines, number: int, message: str = "line {}", start: int = 1) -> None:
    for n in range(start, start + number):
        lines.add(float(n), "info", "shop", message.format(n))


def taken(lines: LogLines) -> Portion:
    portion = lines.take()
    assert portion is not None
    return portion


def test_lines_are_numbered_and_registered_once_until_they_are_taken():
    lines, registered = lines_of(3)
    assert registered == [lines]
    portion = taken(lines)
    assert [(line.line, line.message) for line in portion.lines] == [
        (1, "line 1"),
        (2, "line 2"),
        (3, "line 3"),
    ]
    assert (portion.keep_from, portion.dropped) == (0, 0)
    lines.written()
    assert lines.take() is None
    add(lines, 1)
    assert registered == [lines, lines]
    assert [line.line for line in taken(lines).lines] == [4]


def test_what_was_taken_and_not_written_is_taken_again():
    lines, _ = lines_of(2)
    taken(lines)
    add(lines, 1, start=3)
    assert [line.message for line in taken(lines).lines] == ["line 1", "line 2", "line 3"]


def test_of_many_lines_the_newest_are_kept_and_one_says_how_many_are_gone():
    lines, _ = lines_of(100_000)
    portion = taken(lines)
    assert (portion.lines[0].line, portion.lines[0].message) == (99_000, "… 99,000 lines were dropped")
    assert [line.line for line in portion.lines[1:]] == list(range(99_001, 100_001))
    assert (portion.keep_from, portion.dropped) == (99_000, 99_000)


def test_lines_that_are_written_already_make_room_for_newer_ones():
    lines, _ = lines_of(MOST_LINES)
    taken(lines)
    lines.written()
    add(lines, 1)
    portion = taken(lines)
    assert [(line.line, line.message) for line in portion.lines] == [
        (1, "… 1 line was dropped"),
        (1001, "line 1"),
    ]
    assert (portion.keep_from, portion.dropped) == (1, 0)


def test_while_nothing_can_be_written_an_attempt_takes_up_no_more_room():
    lines, _ = lines_of(0)
    for _ in range(5):
        add(lines, MOST_LINES, "x" * LONGEST_LINE)
        portion = taken(lines)
    assert sum(len(line.message) for line in portion.lines) < 600_000
    assert portion.lines[-1].line == 5 * MOST_LINES
    lines.written()
    add(lines, 3)
    assert len(taken(lines).lines) == 4


# ---- the handler
# ---------------------------------------------------------------------------------------------------


@pytest.fixture
def scribe() -> JobLogFlusher:
    return JobLogFlusher(Words(), Flusher(), SYSTEM)


@pytest.fixture
def running(scribe: JobLogFlusher) -> Iterator[RunningJob]:
    """A job that runs here, where everything from INFO up is heard."""
    root = logging.getLogger()
    handlers, level, before = list(root.handlers), root.level, structlog.get_config()
    configure_for_jobs("json", "error", job_log_fields)
    log_capture.start(JobLogHandler(logging.INFO, scribe.register))
    running = job_running()
    token = enter(running)
    yield running
    leave(running, token)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def messages(running: RunningJob) -> list[str]:
    portion = None if running.lines is None else running.lines.take()
    return [] if portion is None else [line.message for line in portion.lines]


log = logging.getLogger("tests.job_logs")


def test_a_line_knows_its_level_its_logger_and_its_time(running):
    log.warning("%d left", 3)
    (line,) = running.lines.take().lines
    assert (line.level, line.logger, line.message) == ("warning", "tests.job_logs", "3 left")
    assert line.logged_at > NOW.timestamp() - 10 * 365 * 86_400


def test_what_is_logged_outside_of_a_job_is_nobodys(running):
    token = enter(None)
    log.warning("who said that")
    leave(None, token)
    assert running.lines is None


def test_lines_below_the_level_are_not_kept(running):
    log.debug("too much")
    assert running.lines is None


def test_extra_fields_and_events_read_the_same(running):
    log.info("rendered", extra={"pages": 7})
    running.log.info("rendered", pages=7)
    assert messages(running) == ["rendered pages=7", "rendered pages=7"]


def say_in_all_ways() -> None:
    """Log errors with the field names that lines of a job have."""
    log.error("a record", extra={"job_id": "other", "queue": "q", "level": "l", "event": "e", "logger": "x"})
    logging.LoggerAdapter(log, {"job": "other"}).error("an adapter's record")
    structlog.get_logger("shop").error("an event", job_id="other", attempt=7)
    current_job().log.error("an event of the job's logger", job_id="other")
    with structlog.contextvars.bound_contextvars(job_id="other", queue="q"):
        log.error("with context variables")


def test_each_line_that_a_job_logs_has_the_fields_of_the_job(monkeypatch, request):
    shown = StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    running = request.getfixturevalue("running")
    say_in_all_ways()
    lines = [orjson.loads(line) for line in shown.getvalue().splitlines()]
    assert len(lines) == 5
    for line in lines:
        assert {key: line[key] for key in running.log_fields} == running.log_fields, line["event"]
        assert line["level"] == "error"
    first, adapted, event = lines[:3]
    assert (first["event"], first["logger"], first["level_"], first["event_"]) == (
        "a record", "tests.job_logs", "l", "e",
    )  # fmt: skip
    assert (first["job_id_"], first["queue_"], adapted["job_"]) == ("other", "q", "other")
    assert (event["job_id_"], event["attempt_"]) == ("other", 7)
    assert messages(running)[2] == "an event job_id=other attempt=7"


def test_a_line_has_the_id_of_the_request_that_its_job_began_with(monkeypatch, request):
    shown = StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    request.getfixturevalue("running")
    running = job_running(request_id="order-7")
    token = enter(running)
    try:
        say_in_all_ways()
        current_job().log.error("its own", request_id="other")
    finally:
        leave(running, token)
    lines = [orjson.loads(line) for line in shown.getvalue().splitlines()]
    assert [line["request_id"] for line in lines] == ["order-7"] * 6
    assert lines[5]["request_id_"] == "other"
    assert messages(running)[5] == "its own request_id=other"


def test_secrets_are_masked_before_anything_is_cut(running):
    log.info("connecting with token=%s", "s3cret" * 2_000)
    log.info("%s password=hunter2 %s", "a" * LONGEST_LINE, "b" * 100)
    running.log.info("signing", api_key="s3cret")
    text = "".join(messages(running))
    assert "s3cret" not in text
    assert "hunter2" not in text
    assert text.count("***") >= 2


def test_a_long_line_keeps_its_ends(running):
    log.info("begin%send", "x" * 1_000_000)
    (message,) = messages(running)
    assert len(message) <= LONGEST_LINE
    assert message.startswith("begin")
    assert message.endswith("end")


def test_a_traceback_is_part_of_its_line_and_its_end_is_kept(running):
    def deeper(levels: int) -> None:
        if not levels:
            raise OSError("the disk is full")
        deeper(levels - 1)

    try:
        deeper(400)
    except OSError:
        log.exception("cannot write")
        running.log.exception("cannot.write")
    first, second = messages(running)
    assert first.startswith("cannot write\nTraceback (most recent call last):")
    assert second.startswith("cannot.write\nTraceback (most recent call last):")
    assert first.endswith("OSError: the disk is full")
    assert len(first) <= LONGEST_LINE


def handler_of_jobs() -> JobLogHandler:
    (handler,) = [one for one in log_capture._handlers if isinstance(one, JobLogHandler)]
    return handler


def test_text_that_postgres_cannot_store_is_made_storable(running):
    # Past the logger: pytest would keep the line, too, and cannot send it from one process to another.
    handler_of_jobs().handle(logging.makeLogRecord({"msg": "a\x00b\ud800c", "levelno": logging.INFO}))
    assert messages(running) == ["a\ufffdb?c"]


def test_a_line_that_cannot_be_put_into_words_harms_nobody(running):
    class Unspeakable:
        def __str__(self) -> str:
            raise RuntimeError

    for template, value in (("%s", Unspeakable()), ("%d", "no number")):
        handler_of_jobs().handle(
            logging.makeLogRecord({"msg": template, "args": (value,), "levelno": logging.INFO})
        )
    assert messages(running) == [
        "<a line that cannot be shown: RuntimeError>", "<a line that cannot be shown: TypeError>",
    ]  # fmt: skip


def test_what_the_process_shows_stays_as_it_is(running, capsys):
    log.info("for the job alone")
    assert messages(running) == ["for the job alone"]
    assert capsys.readouterr().err == ""


# ---- progress
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kept"),
    [(0.5, 0.5), (-1, 0.0), (7, 1.0), (float("inf"), 1.0), (float("-inf"), 0.0), (True, 1.0)],
)
def test_progress_lies_between_nothing_and_all(said, kept):
    running = job_running()
    running.progress(said)
    assert running.reported == (kept, None)


def test_nan_leaves_what_was_said_before():
    running = job_running()
    running.progress(float("nan"), "dividing by nothing")
    assert running.reported == (0.0, "dividing by nothing")
    running.progress(0.3)
    running.progress(float("nan"), "again")
    assert running.reported == (0.3, "again")


def test_a_huge_note_is_cut_at_once():
    running = job_running()
    running.progress(0.5, "x" * 1_000_000)
    assert running.reported is not None
    assert len(str(running.reported[1])) == 500


def test_the_worker_is_told_once_until_it_has_written():
    told: list[RunningJob] = []
    running = job_running(told)
    running.progress(0.1)
    running.progress(0.2)
    assert told == [running]
    said = running.reported
    running.progress(0.3)
    running.written(said)
    assert (told, running.unwritten) == ([running, running], True)
    running.written(running.reported)
    assert not running.unwritten
    running.progress(0.4)
    assert len(told) == 3


def test_progress_raises_once_the_job_shall_stop():
    running = job_running()
    running.cancel_requested = True
    with pytest.raises(Cancel):
        running.progress(0.5)


# ---- the scribe
# ----------------------------------------------------------------------------------------------------


def run_to_end(scribe: JobLogFlusher) -> None:
    scribe._stopping.set()
    scribe._some.set()
    scribe.run()


def test_an_attempt_that_has_nothing_to_tell_goes_straight_on():
    flusher = Flusher()
    attempt = Ended(job_running())
    JobLogFlusher(Words(), flusher, SYSTEM).put(attempt)
    assert flusher.ended == [attempt]


def test_last_words_are_written_before_the_outcome():
    words, flusher = Words(), Flusher()
    scribe = JobLogFlusher(words, flusher, SYSTEM)
    running = job_running()
    running.progress(0.75, "nearly")
    running.lines = LogLines(running.id, 3, 2, scribe.register)
    add(running.lines, 2)
    scribe.put(Ended(running))
    assert flusher.ended == []
    run_to_end(scribe)
    assert [one.running for one in flusher.ended] == [running]
    assert [(one.fraction, one.note) for one in words.reports] == [(0.75, "nearly")]
    assert [line.message for line in words.portions[0].lines] == ["line 1", "line 2"]
    assert not running.unwritten


def test_while_the_database_is_away_lines_wait_and_a_stop_does_not():
    words, flusher = Words(away=1), Flusher()
    scribe = JobLogFlusher(words, flusher, SYSTEM)
    running = job_running()
    running.lines = LogLines(running.id, 3, 2, scribe.register)
    add(running.lines, 2)
    scribe.put(Ended(running))
    run_to_end(scribe)
    assert len(flusher.ended) == 1
    assert words.portions == []
    assert len(taken(running.lines).lines) == 2


def test_words_that_are_refused_hold_up_nobody(monkeypatch):
    words, flusher = Words(), Flusher()
    monkeypatch.setattr(words, "write", lambda *_: 1 / 0)
    scribe = JobLogFlusher(words, flusher, SYSTEM)
    running = job_running()
    running.progress(0.5)
    scribe.put(Ended(running))
    run_to_end(scribe)
    assert len(flusher.ended) == 1


# ---- on the screen
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80])
def test_a_line_is_folded_to_the_terminal_and_stays_under_its_time(width):
    message = "cannot write " + "pages " * 40 + "x" * 200 + '\n  File "shop.py"\n\nOSError: \x1b[31mfull\t!'
    shown = click.unstyle(folded(JobLogLine(1, 1, 1, NOW, "error", "shop", message), width))
    first, *rest = shown.splitlines()
    assert first.startswith("09:00:00  error: cannot write pages")
    assert max(len(row) for row in (first, *rest)) <= width
    assert all(not row or row.startswith(" " * 10) for row in rest)
    assert '            File "shop.py"' in rest
    assert "\x1b" not in shown


def test_a_line_that_is_piped_is_left_whole():
    shown = click.unstyle(folded(JobLogLine(1, 1, 1, NOW, "info", "shop", "x" * 4000), None))
    assert shown == "09:00:00  " + "x" * 4000
