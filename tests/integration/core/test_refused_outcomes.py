"""Postgres refuses the outcome of an attempt: the work is not repeated, and the job does not stay running."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from callboard.jobs.attempts.verdict import Verdict
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.retry import RetryPolicy
from callboard.jobs.model.states import Verb
from callboard.workers.report.flusher import Flusher
from tests.integration.core.factories import claimed, run_sql, states

VERDICT = Verdict("host:1")
POLICY = RetryPolicy(max_attempts=5)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Released:
    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.ended: list[str] = []

    def release(self, attempts):
        self.jobs += [attempt.job.id for attempt in attempts]


class Ended:
    """An attempt that has ended, as the flusher sees it."""

    def __init__(self, job: Any, finish: Finish | None) -> None:
        self.job = job
        self.finish = finish
        self.began_at = None
        self.running = SimpleNamespace(log_fields={"job_id": str(job.id)})

    def unwritable(self, error: Exception) -> None:
        if self.finish is not None:
            self.finish = VERDICT.unwritable(self.job, self.finish, type(error).__name__, NOW)


@contextmanager
def refusing(platform, condition: str) -> Iterator[None]:
    """A trigger of the user's own that refuses these rows."""
    run_sql(
        platform,
        "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation'; END $$",
    )
    run_sql(
        platform,
        "CREATE TRIGGER refuses BEFORE UPDATE ON callboard.jobs FOR EACH ROW"
        f" WHEN ({condition}) EXECUTE FUNCTION refuses()",
    )
    try:
        yield
    finally:
        run_sql(platform, "DROP FUNCTION refuses() CASCADE")


def flush(worker, *attempts: Ended) -> tuple[Flusher, Released]:
    released = Released()
    made = Flusher(worker.ends, released, SimpleNamespace(put=lambda _: None))
    made._flush(list(attempts))
    return made, released


def returned(job: Any, value: object) -> Ended:
    return Ended(job, VERDICT.returned(job, value, POLICY, NOW))


def raised(job: Any) -> Ended:
    return Ended(job, VERDICT.raised(job, ValueError("words"), POLICY, NOW))


def test_a_result_that_postgres_refuses_fails_the_job_and_its_neighbours_end_as_they_did(platform, worker):
    one, two, three = claimed(platform, worker, 3)
    with refusing(platform, "NEW.result ->> 'bad' IS NOT NULL"):
        _, released = flush(worker, returned(one, {"bad": 1}), returned(two, {"good": 1}), raised(three))
    assert states(platform, [one.id, two.id, three.id]) == ["failed", "succeeded", "retrying"]
    assert len(released.jobs) == 3
    error = platform.jobs.get(one.id).errors[-1]
    assert error["class"] == "ResultRefused"
    assert "the job's work was done" in error["message"]
    assert platform.jobs.get(three.id).errors[-1]["message"] == "words"


def test_an_error_that_postgres_refuses_keeps_the_jobs_retry(platform, worker):
    one, two = claimed(platform, worker, 2)
    with refusing(platform, "NEW.errors::text LIKE '%words%'"):
        flush(worker, raised(one), returned(two, None))
    assert states(platform, [one.id, two.id]) == ["retrying", "succeeded"]
    message = platform.jobs.get(one.id).errors[-1]["message"]
    assert message.startswith("the outcome of the attempt could not be stored: ")
    assert message.endswith("; the attempt ended with ValueError")


def test_what_postgres_refuses_in_any_form_is_kept_and_written_when_it_is_accepted(platform, worker):
    one, two = claimed(platform, worker, 2)
    with refusing(platform, f"NEW.id = '{one.id}'"):
        flusher, released = flush(worker, returned(one, {"pages": 12}), returned(two, None))
        assert states(platform, [one.id, two.id]) == ["running", "succeeded"]
        assert released.jobs == [two.id]
    flusher._stopping.set()
    flusher._write_refused()
    assert states(platform, [one.id]) == ["failed"]
    assert released.jobs == [two.id, one.id]
    assert platform.jobs.get(one.id).errors[-1]["class"] == "ResultRefused"


@pytest.mark.long
def test_a_hand_back_that_postgres_refuses_is_kept_and_written_when_it_is_accepted(platform, worker):
    one, two = claimed(platform, worker, 2)
    with refusing(platform, f"NEW.id = '{one.id}'"):
        flusher, _ = flush(worker, Ended(one, None), Ended(two, None))
        assert states(platform, [one.id, two.id]) == ["running", "queued"]
    flusher._stopping.set()
    flusher._write_refused()
    assert states(platform, [one.id]) == ["queued"]


def test_a_text_of_any_kind_is_written_with_its_neighbours_in_one_statement(platform, worker):
    jobs = claimed(platform, worker, 4)
    texts = ["a\x00b", "\ud800", "x" * 1_000_000, "\N{PILE OF POO}"]
    ends = [VERDICT.raised(job, ValueError(text), POLICY, NOW) for job, text in zip(jobs, texts, strict=True)]
    assert {end.verb for end in ends} == {Verb.RETRY}
    assert len(worker.finish(ends)) == 4
