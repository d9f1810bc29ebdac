"""An application of version 0.1 is upgraded: its jobs, schedules, keys and webhooks go on where they were."""

import hashlib
import hmac
import json
import shutil
from http.client import HTTPConnection
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import text

from callboard.jobs.model.states import TERMINAL, JobState
from tests.e2e.stage import HERE, Stage, until
from tests.integration.core import release_0_1

#: The delivery that version 0.1 took in.
OLD_DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
BODY = b'{"ref": "refs/heads/main"}'

#: What becomes of each job that 0.1 had not ended.
GOES_ON = {
    "queued": {"account": 9, "month": "2026-10"},
    "queued-limited": 10,
    "queued-limited-same": 11,
    "running": "ended",
    "limited-running": "ended",
    "scheduled": {"account": 13, "month": "2026-10"},
    "snoozes": "awake",
    "varied": "at last",
    "sql": {"account": 15, "month": "2026-10"},
}
STAYS = {"far": JobState.SCHEDULED, "dead-letter": JobState.QUEUED, "waiting": JobState.WAITING}


def ask(
    url: str, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, object]]:
    """The status and the JSON of an answer."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def deliver(
    url: str, delivery: str, secret: str = release_0_1.SIGNING_SECRET
) -> tuple[int, dict[str, object]]:
    """Send a push as GitHub does."""
    signature = "sha256=" + hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    return ask(
        url, "POST", "/webhooks/github", BODY, Content_Type="application/json", X_GitHub_Event="push",
        X_GitHub_Delivery=delivery, X_Hub_Signature_256=signature,
    )  # fmt: skip


def ticks(stage: Stage, schedule: str) -> list[tuple[str, UUID | None]]:
    """The ticks of a schedule that this version has decided."""
    statement = text(
        "SELECT t.result, t.job_id FROM callboard.schedule_ticks t"
        " JOIN callboard.schedules s ON s.id = t.schedule_id"
        " WHERE s.name = :schedule AND t.decided_at > now() - interval '1 hour' ORDER BY t.nominal_at"
    )
    with stage.platform.database.autocommit() as connection:
        return [(row[0], row[1]) for row in connection.execute(statement, {"schedule": schedule})]


def test_an_application_of_0_1_goes_on_after_the_upgrade(stage: Stage) -> None:
    try:
        release_0_1.load(stage.platform)
    finally:
        stage.platform.migrations.upgrade()
    stage.platform.catalogue.forget()
    jobs = release_0_1.tagged(stage.platform)
    before = {tag: stage.job(job) for tag, job in jobs.items()}
    ended = {tag: job for tag, job in before.items() if job.state in TERMINAL}
    assert before.keys() == GOES_ON.keys() | STAYS.keys() | ended.keys()

    shutil.copy(HERE / "release_jobs.py", stage.folder)
    # the fixture's rows are old, and must not be pruned
    settings = {
        "jobs": "release_jobs", "queues": "default,mail,hooks,letters", "secret_key": release_0_1.SECRET_KEY,
        "lease_ttl": "2s", "retention": "3650d",
    }  # fmt: skip
    stage.worker(**settings)
    stage.start("scheduler", **settings)
    api = stage.start("api", port=0, **settings)

    for tag, result in GOES_ON.items():
        job = stage.platform.waiting.wait(jobs[tag], None)
        assert (job.state, job.result) == (JobState.SUCCEEDED, result), tag
    assert {tag: stage.job(jobs[tag]).state for tag in STAYS} == STAYS
    assert {tag: stage.job(jobs[tag]) for tag in ended} == ended

    _, tick = until(lambda: [tick for tick in ticks(stage, "often") if tick[0] == "fired"])[0]
    assert tick is not None
    assert stage.platform.waiting.wait(tick, None).result == {"account": 1, "month": "2026-10"}
    assert ticks(stage, "paused") == []

    url = str(until(lambda: api.events("api.listening"))[0]["url"])
    key = f"Bearer {release_0_1.API_KEY}"
    status, shown = ask(url, "GET", f"/v1/jobs/{jobs['gives_up']}", Authorization=key)
    assert (status, shown["errors"][0]["class"]) == (200, "Failed")  # type: ignore[index]
    assert ask(url, "GET", "/v1/jobs", Authorization=key + "x")[0] == 401
    status, delivered = deliver(url, "a-new-delivery")
    assert (status, delivered["duplicate"]) == (202, False)
    [made] = delivered["job_ids"]  # type: ignore[misc]
    assert stage.platform.waiting.wait(UUID(made), None).result == "push to refs/heads/main"
    status, again = deliver(url, OLD_DELIVERY)
    assert (status, again["duplicate"]) == (202, True)
    assert deliver(url, "forged", "another signing secret")[0] == 401
