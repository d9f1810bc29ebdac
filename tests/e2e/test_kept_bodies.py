"""Values that a real worker reads: the raw body of a webhook, and results with large numbers."""

import pytest

from callboard.jobs.errors import NotFound
from callboard.jobs.model.states import JobState
from callboard.jobs.webhooks.delivery import Incoming
from callboard.jobs.webhooks.intake import source_request
from callboard.jobs.webhooks.schemes import SCHEMES
from tests.e2e.stage import Stage, until

KEY = "only for these tests"
SECRET = "a secret of some length"


def test_a_job_reads_the_body_that_its_payload_cannot_hold(stage: Stage) -> None:
    intake = stage.platform.intake(KEY)
    intake.create(
        source_request(
            {"name": "forge", "scheme": "github", "job": "keep_webhook", "secret": SECRET, "unchecked": True}
        )
    )
    bodies = [b'{"total": 1e999}', b'{"n": 7}', b"\xff\x00", b'{"a": 1, "a": 2}', b"[" * 10_000]
    ids = []
    for number, body in enumerate(bodies):
        headers = SCHEMES["github"].sign(SECRET, body) | {"x-github-event": "push"}  # type: ignore[call-arg]
        accepted = intake.receive(Incoming("forge", headers | {"x-github-delivery": f"d-{number}"}, body))
        ids += accepted.job_ids
    intake.close()
    stage.worker()
    for body, job_id in zip(bodies, ids, strict=True):
        until(lambda job_id=job_id: stage.job(job_id).state is JobState.SUCCEEDED)
        expected = (
            {"payload": {"n": 7}, "body": None}
            if body == b'{"n": 7}'
            else {"payload": None, "body": body.hex()}
        )
        assert stage.job(job_id).result == expected
    # A rerun reads the same body.
    stage.platform.control.rerun(ids[0])
    until(lambda: stage.job(ids[0]).state is JobState.SUCCEEDED)
    assert stage.job(ids[0]).result == {"payload": None, "body": bodies[0].hex()}


def test_a_result_comes_back_as_the_same_number(stage: Stage) -> None:
    values = [2**64, -(10**300), 1e16, -0.0, 1.7976931348623157e308, 12345678901234567.0]
    ids = [stage.enqueue("echo", value=value) for value in values]
    stage.worker()
    for value, job_id in zip(values, ids, strict=True):
        until(lambda job_id=job_id: stage.job(job_id).state is JobState.SUCCEEDED)
        assert repr(stage.job(job_id).result) == repr(value)


def test_a_body_goes_with_its_delivery(stage: Stage) -> None:
    source = {"name": "forge", "scheme": "github", "job": "keep_webhook", "secret": SECRET, "unchecked": True}
    intake = stage.platform.intake(KEY)
    intake.create(source_request(source))
    headers = SCHEMES["github"].sign(SECRET, b"{") | {"x-github-event": "push", "x-github-delivery": "d"}  # type: ignore[call-arg]
    accepted = intake.receive(Incoming("forge", headers, b"{"))
    assert accepted.delivery_id is not None
    assert stage.platform.deliveries.body(accepted.delivery_id) == b"{"
    intake.delete("forge")
    intake.close()
    with pytest.raises(NotFound):
        stage.platform.deliveries.body(accepted.delivery_id)
