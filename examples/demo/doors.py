"""Enqueue work through every door: each way in which a job can be enqueued.

Each door's method returns the jobs that ran, or raises DemoFailed.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import dramatiq
import httpx
import psycopg
from psycopg import sql

from callboard import Client
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.model.basics.clock import SYSTEM
from examples.demo.ran import Ran
from examples.demo.show import Step
from examples.demo.stage import DemoFailed, Stage

PUSH: Final = Path(__file__).parents[1] / "github_push.json"
PRIMES_BELOW: Final = 1_000_000
#: The known number of primes below that.
PRIMES: Final = 78_498
BLOCK: Final = 500
_TICKS: Final = 2
_WAIT_SECONDS: Final = 60.0
_ACCEPTED: Final = 202


class Doors:
    """The doors, as methods. `run` is a name that marks this demo's jobs; the database may have others."""

    def __init__(self, stage: Stage, client: Client, database_url: str) -> None:
        self.run = f"demo-{uuid4().hex[:8]}"
        self._stage = stage
        self._client = client
        self._database_url = database_url
        self._http = httpx.Client(base_url=stage.url, timeout=_WAIT_SECONDS)

    def schedule(self, step: Step) -> None:
        """Create a schedule. `ticks` waits for its jobs."""
        self._stage.callboard("schedule", "create", self.run, "--job", "heartbeat", "--every", "2s")
        step.done = "callboard schedule create … --every 2s"

    def command_line(self, step: Step) -> list[Ran]:
        """Enqueue a job with the command line, and wait for it."""
        arguments = json.dumps({"account_id": 7, "month": "2026-10"})
        job = self._stage.callboard("job", "enqueue", "build_report", "--args", arguments, "--wait")
        ran = Ran.of("command line", job)
        step.done = f"a report: total {ran.result['total']}, best day {ran.result['best_day']}"
        return [ran]

    def http(self, step: Step) -> list[Ran]:
        """Create a key with the command line and post a job with it. Later doors use the key to read."""
        made = self._stage.callboard("key", "create", self.run, "--role", "operator")
        self._http.headers["Authorization"] = f"Bearer {made['token']}"
        job = self._post("/v1/jobs", {"name": "count_lines", "kwargs": {"pattern": "**/*.py"}})
        ran = self._ended("HTTP", job["id"])
        step.done = f"POST /v1/jobs: {ran.result['lines']:,} lines in {ran.result['files']} files here"
        return [ran]

    def webhook(self, step: Step) -> list[Ran]:
        """Post a recorded GitHub push with its signature, twice: GitHub may deliver more than once."""
        source = self._stage.callboard(
            "webhook", "source", "create", self.run,
            "--scheme", "github", "--job", "summarise_push", "--event", "push",
        )  # fmt: skip
        body = PUSH.read_bytes()
        signature = hmac.new(source["secret"].encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid4()),
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        first, again = (self._deliver(body, headers) for _ in range(2))
        if first["duplicate"] or not again["duplicate"] or first["job_ids"] != again["job_ids"]:
            raise DemoFailed(f"the second delivery was not recognised as a duplicate: {first}, {again}")
        forged = self._http.post(f"/webhooks/{self.run}", content=body + b" ", headers=headers)
        if forged.status_code != httpx.codes.UNAUTHORIZED:
            raise DemoFailed(f"a forged delivery was answered with {forged.status_code}")
        ran = self._ended("webhook", first["job_ids"][0])
        step.done = "a push sent twice ran once; a forged one was refused"
        return [ran]

    def sql(self, step: Step) -> list[Ran]:
        """Enqueue in a transaction with plain SQL. The job fails once and is retried."""
        enqueue = sql.Identifier(self._client.platform.database.schema, "enqueue")
        with psycopg.connect(self._database_url) as connection:
            row = connection.execute(
                sql.SQL("select {}('flaky', jsonb_build_object('address', %s::text))").format(enqueue),
                ["db.example:5432"],
            ).fetchone()
        ran = self._ended("SQL", str(row[0] if row else ""))
        step.done = f"select callboard.enqueue(…): attempt {ran.attempts} succeeded"
        return [ran]

    def actor(self, step: Step) -> list[Ran]:
        """Send to a plain Dramatiq actor. The broker at its declaration decides where messages go."""
        dramatiq.set_broker(CallboardBroker(lambda: self._client.platform))
        from examples.jobs import count_words

        message = count_words.send("the show must go on and on and on")
        ran = self._ended("Dramatiq", message.message_id)
        step.done = f"count_words.send(…): {json.dumps(ran.result)}"
        return [ran]

    def python(self, step: Step) -> list[Ran]:
        """Enqueue 2,000 jobs with one call, and watch them run."""
        blocks = [{"start": at, "stop": at + BLOCK} for at in range(0, PRIMES_BELOW, BLOCK)]
        self._client.enqueue_many("count_primes", blocks, tags=[self.run])
        deadline, left = SYSTEM.monotonic() + _WAIT_SECONDS, len(blocks)
        while left and SYSTEM.monotonic() < deadline:
            queue = self._get("/v1/queues/numbers")
            left = min(
                len(blocks), sum(queue[state] for state in ("scheduled", "queued", "running", "retrying"))
            )
            step.progress(len(blocks) - left, len(blocks), "jobs")
            time.sleep(0.1)
        ran = [Ran.of("Python", job) for job in self._tagged()]
        primes = sum(one.result or 0 for one in ran)
        if len(ran) != len(blocks) or primes != PRIMES:
            raise DemoFailed(
                f"{len(ran):,} jobs counted {primes:,} primes;"
                f" expected {len(blocks):,} jobs and {PRIMES:,} primes"
            )
        step.done = f"{len(ran):,} jobs counted the {primes:,} primes below {PRIMES_BELOW:,}"
        return ran

    def ticks(self, step: Step) -> list[Ran]:
        """Wait until the schedule has ticked twice."""
        fired: list[str] = []
        deadline = SYSTEM.monotonic() + _WAIT_SECONDS
        while len(fired) < _TICKS and SYSTEM.monotonic() < deadline:
            listed = self._stage.callboard("schedule", "ticks", self.run)
            fired = [tick["job_id"] for tick in listed["items"] if tick["job_id"]]
        if len(fired) < _TICKS:
            raise DemoFailed(f"the schedule ticked {len(fired)} times in {_WAIT_SECONDS:.0f} s")
        ran = [self._ended("schedule", job) for job in fired]
        step.done = f"ticked {len(ran)} times; the load is {ran[0].result['load']}"
        return ran

    def close(self) -> None:
        self._http.close()

    def _ended(self, door: str, job_id: str) -> Ran:
        """Wait for a job's end with a long poll over HTTP."""
        job = self._get(f"/v1/jobs/{job_id}?wait=30s")
        if job["finished_at"] is None:
            raise DemoFailed(f"job {job_id} ({job['name']}) is still {job['state']} after 30 s")
        return Ran.of(door, job)

    def _tagged(self) -> Iterator[dict[str, Any]]:
        """Yield every job with the demo's tag, page by page."""
        cursor: str | None = ""
        while cursor is not None:
            page = self._get(f"/v1/jobs?tag={self.run}&limit=200" + (f"&cursor={cursor}" if cursor else ""))
            yield from page["items"]
            cursor = page["next_cursor"]

    def _deliver(self, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        return _json(self._http.post(f"/webhooks/{self.run}", content=body, headers=headers))

    def _get(self, path: str) -> dict[str, Any]:
        return _json(self._http.get(path))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return _json(self._http.post(path, json=body))


def _json(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise DemoFailed(
            f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}: {answer.text}"
        )
    value: dict[str, Any] = answer.json()
    return value
