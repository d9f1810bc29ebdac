"""The id of an HTTP request is on every log line of its job, and of the jobs that this job enqueues."""

import hashlib
import hmac
import json
import shutil
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from callboard.jobs.model.job import Job
from callboard.jobs.webhooks.intake import source_request
from tests.e2e.stage import HERE, PATIENCE, Process, Stage, until

SIGNING = "the secret of the shop"
#: By what `takes_order` enqueues, and what follows from that. The callback gets a message as its argument.
ENQUEUED = {
    "current_job", "job.enqueue", "send", "client 0", "client 1", "with callback", "first", "next", "of group",
}  # fmt: skip


@pytest.fixture
def worker(stage: Stage) -> Process:
    shutil.copy(HERE / "request_jobs.py", stage.folder)
    stage.start("scheduler")
    return stage.worker(jobs="request_jobs")


@pytest.fixture
def web(stage: Stage, worker: Process) -> Iterator[httpx.Client]:
    assert worker.alive
    api = stage.start("api", port=0)
    url = str(until(lambda: api.events("api.listening"))[0]["url"])
    _, token = stage.platform.auth.create("shop", "operator")
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE) as client:
        yield client


def post(web: httpx.Client, path: str, body: object, request_id: str) -> Any:
    answer = web.post(path, json=body, headers={"X-Request-ID": request_id})
    assert answer.status_code == 201, answer.text
    assert answer.headers["X-Request-ID"] == request_id
    return answer.json()


def ended(stage: Stage, job_id: str) -> Job:
    return stage.platform.waiting.wait(UUID(job_id), None)


def test_a_job_and_the_jobs_that_it_enqueues_have_the_id_of_the_request(
    stage: Stage, worker: Process, web: httpx.Client
) -> None:
    made = post(web, "/v1/jobs", {"name": "takes_order", "kwargs": {"order": 2}}, "order-7")
    assert made["request_id"] == "order-7"
    job = ended(stage, made["id"])
    assert (job.request_id, job.result) == ("order-7", "order-7")
    assert web.get(f"/v1/jobs/{made['id']}").json()["request_id"] == "order-7"
    lines = worker.events("takes")
    assert [(line["by"], line["job_id"], line["request_id"]) for line in lines] == [
        (by, made["id"], "order-7") for by in ("logging", "structlog", "job")
    ]
    # A field of the job's own line gets another name, as its other fields do.
    assert lines[2]["request_id_"] == "its own"
    stored = stage.platform.job_logs.newest(job.id, limit=10)
    assert [line.message for line in stored] == [
        "takes by=logging", "takes by=structlog", "takes by=job request_id=its own",
    ]  # fmt: skip

    # Each of these, the callback of `with callback`, and the callback of the group.
    until(lambda: len(worker.events("packs")) == len(ENQUEUED) + 2)
    packs = worker.events("packs")
    assert {str(line["by"]) for line in packs} >= ENQUEUED | {"after group"}
    assert {line["request_id"] for line in packs} == {"order-7"}
    assert {stage.job(UUID(str(line["job_id"]))).source for line in packs} == {"job"}


def test_jobs_of_a_batch_and_a_job_that_fails_have_the_id(
    stage: Stage, worker: Process, web: httpx.Client
) -> None:
    alike = [{"name": "packs", "kwargs": {"by": "batch"}}] * 3
    mixed = [{"name": "packs", "kwargs": {"by": "mixed"}, "unique_key": "k"}, {"name": "breaks"}]
    jobs = [job for batch, name in ((alike, "b-1"), (mixed, "b-2"))
            for job in post(web, "/v1/jobs/batch", {"jobs": batch}, name)["items"]]  # fmt: skip
    assert [ended(stage, job["id"]).request_id for job in jobs] == ["b-1"] * 3 + ["b-2"] * 2
    until(lambda: worker.events("job.failed"))
    shown = [(line["event"], line["request_id"]) for name in ("packs", "job.failed")
             for line in worker.events(name)]  # fmt: skip
    assert sorted(shown, key=str) == [("job.failed", "b-2")] + [("packs", "b-1")] * 3 + [("packs", "b-2")]


def test_a_delivery_of_a_webhook_has_the_id(stage: Stage, worker: Process, web: httpx.Client) -> None:
    source = {"name": "shop", "scheme": "github", "job": "takes_push", "secret": SIGNING}
    stage.platform.intake("only for these tests").create(source_request(source))
    body = json.dumps({"ref": "main"}).encode()
    headers = {
        "X-Hub-Signature-256": "sha256=" + hmac.new(SIGNING.encode(), body, hashlib.sha256).hexdigest(),
        "X-GitHub-Delivery": "d-1", "X-GitHub-Event": "push", "X-Request-ID": "hook/1",
        "Content-Type": "application/json",
    }  # fmt: skip
    answer = web.post("/webhooks/shop", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    [job_id] = answer.json()["job_ids"]
    assert ended(stage, job_id).result == "hook/1"
    assert [line["request_id"] for line in worker.events("takes")] == ["hook/1"]


def test_a_hostile_id_is_replaced_and_a_job_of_no_request_has_none(
    stage: Stage, worker: Process, web: httpx.Client
) -> None:
    answer = web.post(
        "/v1/jobs", json={"name": "packs", "kwargs": {"by": "web"}}, headers={"X-Request-ID": "x" * 101}
    )
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] != "x" * 101
    job_id = stage.enqueue("packs", by="python")
    assert ended(stage, str(job_id)).request_id is None
    ended(stage, answer.json()["id"])
    by = {line["by"]: line for line in worker.events("packs")}
    assert by["web"]["request_id"] == answer.headers["X-Request-ID"]
    assert "request_id" not in by["python"]
