"""Keys that are restricted to a queue, to a job or to both: what each route lets them see and do."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.job import Source
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.request import job_request
from tests.integration.api_client import Caller, api_in_process, error_of, finish
from tests.integration.core.factories import enqueue_one, execution, run_sql, statements, states

#: The jobs of the stage: by name and queue. `build_report` and `archive` are published in `reports`.
JOBS = {
    "mine": ("build_report", "reports"),
    "sibling": ("archive", "reports"),
    "stray": ("build_report", "other"),
    "foreign": ("take_webhook", "hooks"),
}


@dataclass(frozen=True)
class Confined:
    """A kind of restricted key, and which of JOBS it sees, which job types and queues."""

    queue: str | None
    job: str | None
    jobs: tuple[str, ...]
    types: tuple[str, ...]
    queues: tuple[str, ...]


KEYS = {
    "queue": Confined("reports", None, ("mine", "sibling"), ("archive", "build_report"), ("reports",)),
    "job": Confined(None, "build_report", ("mine", "stray"), ("build_report",), ()),
    "both": Confined("reports", "build_report", ("mine",), ("build_report",), ()),
}

#: Every route below /v1, and the test below that tries it with each key.
DOORS = {
    "GET /v1/jobs": "lists",
    "POST /v1/jobs": "enqueues",
    "POST /v1/jobs/batch": "enqueues",
    "GET /v1/jobs/{id}": "one job",
    "GET /v1/jobs/{id}/logs": "one job",
    "GET /v1/jobs/{id}/why": "one job",
    "POST /v1/jobs/{id}/cancel": "one job",
    "POST /v1/jobs/{id}/retry": "one job",
    "DELETE /v1/jobs/{id}": "one job",
    "POST /v1/jobs/cancel": "filters",
    "POST /v1/jobs/retry": "filters",
    "POST /v1/jobs/delete": "filters",
    "GET /v1/job-types": "lists",
    "GET /v1/queues": "lists",
    "GET /v1/queues/{queue}": "one queue",
    "POST /v1/queues/{queue}/pause": "one queue",
    "POST /v1/queues/{queue}/resume": "one queue",
    "PUT /v1/queues/{queue}/limits": "one queue",
    "GET /v1/workers": "workers",
    "GET /v1/webhook-deliveries": "unrestricted",
    "GET /v1/webhook-deliveries/{id}": "unrestricted",
    "GET /v1/webhook-deliveries/{id}/body": "unrestricted",
    "GET /v1/me": "me",
}


def doors(kind):
    return [door for door, of in DOORS.items() if of == kind]


class Stage:
    """An app with JOBS, and a restricted operator."""

    def __init__(self, api, kind: str) -> None:
        self.api = api
        self.platform = api.platform
        self.kind = KEYS[kind]
        self.key: Caller = api.caller("operator", queue=self.kind.queue, job=self.kind.job)
        self.ids = {one: self.enqueue(one) for one in JOBS}

    def enqueue(self, one: str, **options: Any) -> str:
        name, queue = JOBS[one]
        request = job_request({"name": name, "queue": queue, "unchecked": True, **options})
        return str(enqueue_one(self.platform, request, Source("python")).id)

    def __call__(self, door: str, body: Any = None, **parts: str):
        method, _, path = door.partition(" ")
        return self.key(method, path.format(**parts), **({} if body is None else {"json": body}))

    def states(self) -> dict[str, str]:
        now = states(self.platform, [UUID(id_) for id_ in self.ids.values()])
        return dict(zip(self.ids, now, strict=True))


@pytest.fixture
def api(platform):
    with api_in_process(platform) as api:
        platform.catalogue.publish([JobType("archive", "reports", {}, 5, 10, None, "")])
        platform.catalogue.forget()
        yield api


@pytest.fixture(params=KEYS)
def stage(api, request):
    return Stage(api, request.param)


def without_id(answer, id_):
    error = answer.json()["error"]
    return {**error, "message": error["message"].replace(id_, "ID"), "request_id": ""}


def test_every_route_is_in_the_table(api):
    document = json.loads(api.anonymous.get("/openapi.json").content)
    routes = {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        if path.startswith("/v1/")
        for method in item
    }
    assert routes == set(DOORS)


@pytest.mark.parametrize("door", doors("one job"))
def test_a_job_that_the_key_may_not_see_is_like_one_that_does_not_exist(stage, door):
    missing = str(new_id())
    unknown = without_id(stage(door, id=missing), missing)
    if "retry" in door or "DELETE" in door:
        for id_ in stage.ids.values():
            finish(stage.platform, id_)
    before = stage.states()
    for one, id_ in stage.ids.items():
        if one not in stage.kind.jobs:
            answer = stage(door, id=id_)
            error_of(answer, 404, "NOT_FOUND")
            assert without_id(answer, id_) == unknown, one
            assert stage.states()[one] == before[one]
    for one in stage.kind.jobs:
        assert stage(door, id=stage.ids[one]).status_code in {200, 204}, one


def test_a_wait_for_a_job_that_the_key_may_not_see_ends_at_once(stage):
    for one, id_ in stage.ids.items():
        answer = stage.key.get(f"/v1/jobs/{id_}?wait=10ms")
        assert answer.status_code == (200 if one in stage.kind.jobs else 404)


def test_lists_have_only_what_the_key_may_see(stage):
    found = [job["id"] for job in stage.key.get("/v1/jobs").json()["items"]]
    assert sorted(found) == sorted(stage.ids[one] for one in stage.kind.jobs)
    for one, (name, queue) in JOBS.items():
        found = [job["id"] for job in stage.key.get(f"/v1/jobs?name={name}&queue={queue}").json()["items"]]
        assert found == ([stage.ids[one]] if one in stage.kind.jobs else [])
    types = [kind["name"] for kind in stage.key.get("/v1/job-types").json()["items"]]
    assert types == list(stage.kind.types)
    queues = [queue["name"] for queue in stage.key.get("/v1/queues").json()["items"]]
    assert queues == list(stage.kind.queues)


@pytest.mark.parametrize("door", doors("filters"))
def test_a_filter_changes_only_what_the_key_may_see(stage, door):
    if "cancel" not in door:
        for id_ in stage.ids.values():
            finish(stage.platform, id_)
    before = stage.states()
    for one, (name, queue) in JOBS.items():
        if one not in stage.kind.jobs:
            for body in ({"name": name, "queue": queue}, {"name": name, "queue": queue, "dry_run": True}):
                assert stage(door, body).json()["matched"] == 0, one
    assert stage.states() == before
    state = {"state": ["queued", "succeeded"]}
    assert stage(door, {**state, "dry_run": True}).json()["matched"] == len(stage.kind.jobs)
    assert stage(door, state).json()["changed"] == len(stage.kind.jobs)
    changed = {one for one, now in stage.states().items() if now != before[one]}
    assert changed == set(stage.kind.jobs)


ARGUMENTS = {
    "build_report": {"account_id": 7},
    "archive": {},
    "take_webhook": {"event": "e", "delivery_id": "d", "payload": 1},
}


@pytest.mark.parametrize("door", doors("enqueues"))
def test_only_job_types_of_the_key_are_enqueued_whatever_queue_the_request_names(stage, door):
    def send(**request):
        return stage(door, {"jobs": [request]} if "batch" in door else request)

    own = stage.kind.queue or "reports"
    before = len(stage.api.viewer.get("/v1/jobs").json()["items"])
    told = set()
    for name, kwargs in [*ARGUMENTS.items(), ("nothing_published", {})]:
        for queue in ({}, {"queue": own}, {"queue": "hooks"}):
            for unchecked in ({}, {"unchecked": True}, {"kwargs": {"wrong": 1}}):
                if name in stage.kind.types and (stage.kind.queue is None or queue != {"queue": "hooks"}):
                    continue
                answer = send(**{"name": name, "kwargs": kwargs, **queue, **unchecked})
                told.add(error_of(answer, 403, "FORBIDDEN")["message"])
    assert len(stage.api.viewer.get("/v1/jobs").json()["items"]) == before
    # Neither the names of other job types nor their arguments are told.
    assert len(told) == 1
    for name in stage.kind.types:
        answer = send(name=name, kwargs=ARGUMENTS[name], queue=own)
        assert answer.status_code == 201
        made = answer.json()["items"][0] if "batch" in door else answer.json()
        assert (made["name"], made["queue"]) == (name, own)
        assert send(name=name, kwargs=ARGUMENTS[name]).status_code == 201


@pytest.mark.parametrize("door", doors("enqueues"))
@pytest.mark.parametrize("idempotent", [False, True])
def test_one_job_that_is_not_allowed_keeps_the_whole_request_out(stage, door, idempotent):
    mine = {"name": "build_report", "kwargs": {"account_id": 7}}
    foreign = {"name": "take_webhook", "kwargs": ARGUMENTS["take_webhook"], "queue": "reports"}
    method, _, path = door.partition(" ")
    headers = {"Idempotency-Key": "one"} if idempotent else {}
    body = {"jobs": [mine, foreign]} if "batch" in door else foreign
    error = error_of(stage.key(method, path, json=body, headers=headers), 403, "FORBIDDEN")
    assert error["message"].startswith("jobs[1]: the key" if "batch" in door else "the key")
    assert len(stage.api.viewer.get("/v1/jobs").json()["items"]) == len(JOBS)


@pytest.mark.parametrize("door", doors("enqueues"))
def test_options_that_enqueue_other_jobs_are_refused(stage, door):
    request = {
        "name": "build_report", "kwargs": {"account_id": 7}, "message_options": {"on_success": "take_webhook"},
    }  # fmt: skip
    answer = stage(door, {"jobs": [request]} if "batch" in door else request)
    assert "message_options can enqueue other jobs" in error_of(answer, 403, "FORBIDDEN")["message"]


@pytest.mark.parametrize("on_conflict", ["existing", "replace", "reject"])
@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("held_for", [None, "1h"])
def test_a_unique_key_of_a_job_that_the_key_may_not_see_is_a_conflict_without_its_id(
    stage, on_conflict, idempotent, held_for
):
    hidden = [one for one in JOBS if one not in stage.kind.jobs]
    headers = {"Idempotency-Key": "one"} if idempotent else {}
    for one in hidden:
        period = {"unique_for": held_for} if held_for else {"delay": "1h"}
        held = stage.enqueue(one, unique_key=one, **period)
        if held_for:
            finish(stage.platform, held)
        before = stage.api.viewer.get(f"/v1/jobs/{held}").json()
        body = {
            "name": "build_report", "kwargs": {"account_id": 8}, "unique_key": one, "on_conflict": on_conflict,
        }  # fmt: skip
        for path, request in (("/v1/jobs", body), ("/v1/jobs/batch", {"jobs": [body]})):
            answer = stage.key("POST", path, json=request, headers=headers)
            error = error_of(answer, 409, "CONFLICT")
            assert (
                error["message"].partition(", which")[0].endswith("is held by a job of another name or queue")
            )
            assert held not in answer.text
        assert stage.api.viewer.get(f"/v1/jobs/{held}").json() == before


def test_a_unique_key_of_an_own_job_works_as_usual(stage):
    body = {"name": "build_report", "kwargs": {"account_id": 7}, "unique_key": "k", "delay": "1h"}
    first = stage.key.post("/v1/jobs", body)
    again = stage.key.post("/v1/jobs", {**body, "kwargs": {"account_id": 8}, "on_conflict": "replace"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["id"], again.json()["kwargs"]) == (first.json()["id"], {"account_id": 8})


def test_a_stored_answer_is_replayed_to_no_other_key(stage):
    body = {"name": "build_report", "kwargs": {"account_id": 7}}
    headers = {"Idempotency-Key": "one"}
    first = stage.api.operator.post("/v1/jobs", body, headers=headers)
    own = stage.key.post("/v1/jobs", body, headers=headers)
    assert (first.status_code, own.status_code) == (201, 201)
    assert first.json()["id"] != own.json()["id"]
    again = stage.key.post("/v1/jobs", body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, own.json()["id"])


@pytest.mark.parametrize("door", doors("one queue"))
def test_a_queue_that_holds_other_jobs_is_forbidden(stage, door):
    body = {} if "PUT" in door else None
    for queue in ("reports", "other", "hooks", "no-such-queue"):
        answer = stage(door, body, queue=queue)
        if queue in stage.kind.queues:
            assert answer.status_code == 200
            continue
        error = error_of(answer, 403, "FORBIDDEN")
        assert queue not in error["message"] or queue == stage.kind.queue
    assert stage.platform.queues.get("hooks").paused_at is None


def test_workers_are_shown_without_queues_that_the_key_may_not_see(stage):
    for queues in (("reports", "hooks"), ("hooks",), ()):
        stage.platform.workers.register(WorkerCard(new_id(), "host", 1, queues, (), 8, 64))
    shown = [worker["queues"] for worker in stage.key.get("/v1/workers").json()["items"]]
    assert shown == ([["reports"], []] if stage.kind.job is None else [])


@pytest.mark.parametrize("door", [*doors("unrestricted"), "GET /metrics"])
def test_what_belongs_to_all_queues_is_forbidden(stage, door):
    error_of(stage(door, id=str(new_id())), 403, "FORBIDDEN")


def test_me_names_both_restrictions(stage):
    me = stage.key.get("/v1/me").json()
    assert (me["queue"], me["job"]) == (stage.kind.queue, stage.kind.job)


def test_a_reason_names_other_jobs_of_the_queue_only_to_a_key_that_may_see_them(stage):
    stage.platform.queues.limit("reports", Limits(concurrency=1))
    with execution(stage.platform) as worker:
        worker_id = worker.worker
        run_sql(
            stage.platform,
            "UPDATE callboard.jobs SET state = 'running', attempt = 1, worker_id = :worker,"
            " claim_id = :worker, started_at = now() WHERE id = :id",
            id=stage.ids["sibling"],
            worker=worker_id,
        )
        answer = stage.key.get(f"/v1/jobs/{stage.ids['mine']}/why")
    reason = next(one for one in answer.json()["reasons"] if one["code"] == "queue_concurrency")
    assert (stage.ids["sibling"] in answer.text) is (stage.kind.job is None)
    assert reason["message"].startswith("the queue reports has 1 of 1 running or granted")
    assert reason["data"]["jobs"] == ([stage.ids["sibling"]] if stage.kind.job is None else [])


def test_a_job_type_that_moved_to_another_queue_is_no_longer_enqueued(api):
    key = api.caller("operator", queue="reports")
    assert key.post("/v1/jobs", {"name": "archive"}).status_code == 201
    for queue, allowed in (("other", False), ("reports", True)):
        # A rolling deploy publishes two versions in turn: the one that was published last counts.
        api.platform.catalogue.publish([JobType("archive", queue, {}, 5, 10, None, "")])
        api.platform.catalogue.forget()
        for request in ({"name": "archive"}, {"name": "archive", "queue": "reports"}):
            assert key.post("/v1/jobs", request).status_code == (201 if allowed else 403)


def test_a_job_type_that_is_deleted_is_no_longer_enqueued(api):
    keys = [api.caller("operator", queue="reports"), api.caller("operator", job="archive")]
    run_sql(api.platform, "DELETE FROM callboard.job_types WHERE name = 'archive'")
    api.platform.catalogue.forget()
    for key in keys:
        for request in ({"name": "archive"}, {"name": "archive", "unchecked": True}):
            error_of(key.post("/v1/jobs", request), 403, "FORBIDDEN")
    assert api.operator.post("/v1/jobs", {"name": "archive", "unchecked": True}).status_code == 201


def test_a_refused_name_costs_the_same_queries_whether_it_is_published_or_not(api):
    key = api.caller("operator", queue="reports")
    told = []
    for name in ("take_webhook", "nothing_published", "take_webhook"):
        key.get("/v1/job-types")  # the key and the job types are in the caches now
        with statements(api.platform) as heard:
            error_of(key.post("/v1/jobs", {"name": name}), 403, "FORBIDDEN")
        told.append(list(heard))
    assert len(told[0]) == 1
    assert told[0] == told[1] == told[2]


def test_a_job_type_that_has_just_come_to_the_queue_is_not_refused_by_a_cache(api):
    key = api.caller("operator", queue="reports")
    error_of(key.post("/v1/jobs", {"name": "take_webhook"}), 403, "FORBIDDEN")
    api.platform.catalogue.publish([JobType("take_webhook", "reports", {}, 5, 10, None, "")])
    assert key.post("/v1/jobs", {"name": "take_webhook"}).status_code == 201
