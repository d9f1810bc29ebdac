"""Hooks of Schemathesis: they sign webhooks, keep long polls short, and name the refusals that are right."""

import hashlib
import hmac
import json
import os
import re
import uuid
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import requests
import schemathesis
from schemathesis.openapi.checks import IgnoredAuth
from schemathesis.specs.openapi.checks import RejectedPositiveData

_SECRET = os.environ["FUZZ_WEBHOOK_SECRET"].encode()
_VALID_WAIT = re.compile(r"(?:1m|60s|[0-5]?[0-9](?:\.[0-9]{1,6})?s|[0-5]?[0-9]{1,4}ms)")


class Sign(requests.auth.AuthBase):
    """Signs the bytes of a webhook as GitHub does."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        raw = request.body or b""
        raw = raw.encode() if isinstance(raw, str) else raw
        request.headers["X-Hub-Signature-256"] = (
            "sha256=" + hmac.new(_SECRET, raw, hashlib.sha256).hexdigest()
        )
        request.headers["X-GitHub-Delivery"] = str(uuid.uuid4())
        request.headers["X-GitHub-Event"] = "push"
        return request


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Shorten a valid wait, sign a webhook, and change most valid requests to ones that succeed."""
    wait = (case.query or {}).get("wait")
    if isinstance(wait, str) and _VALID_WAIT.fullmatch(wait):
        case.query["wait"] = "10ms"
    if name_of(case) == "receive_webhook":
        kwargs["auth"] = Sign()
    if (
        case.meta is None
        or not case.meta.generation.mode.is_positive
        or zlib.crc32(repr(case.body).encode()) % 4 == 0
    ):
        return
    match name_of(case):
        case "receive_webhook":
            case.path_parameters["source"] = "fuzz"
        case "create_job" | "create_jobs":
            if "Idempotency-Key" in case.headers:
                # A generator likes few and simple keys, and each belongs to one request.
                case.headers["Idempotency-Key"] = str(uuid.uuid4())
            for job in jobs_in(case):
                for name, other in (("hard_timeout", "timeout"), ("max_backoff", "min_backoff")):
                    if job.get(other) is not None:
                        job.pop(name, None)
                if job.get("unique_key") is None:
                    job.pop("unique_for", None)
                    job.pop("on_conflict", None)


def jobs_in(case: Any) -> list[dict[str, Any]]:
    """Return the jobs in the body of a request that creates some."""
    found: list[dict[str, Any]] = case.body.get("jobs", [case.body])
    return found


class Right(NamedTuple):
    """A refusal of a request that the document allows, and why no schema can forbid the request."""

    status: int
    operations: str
    message: str
    reason: str
    #: Whether the request really is such a one, as far as it shows.
    holds: Callable[[Any], bool] = lambda _case: True


def _has(*names: str) -> Callable[[Any], bool]:
    """Some object in the body has all these fields, and they are not null."""

    def holds(case: Any) -> bool:
        return any(all(job.get(name) is not None for name in names) for job in jobs_in(case))

    return holds


RIGHT = (
    Right(404, r".*_job|list_job_logs", r"there is no job ", "an id is any UUID, and few are those of jobs"),
    Right(404, r".*_queue", r"there is no queue ", "a queue exists once it has been used"),
    Right(404, r"receive_webhook|list_webhook_deliveries", r"there is no webhook source ",
          "a source exists once it is created"),
    Right(404, r"show_webhook_delivery", r"there is no webhook delivery ",
          "an id is any UUID, and few are those of deliveries"),
    Right(404, r"read_webhook_delivery_body", r"(there is no webhook delivery|no body is kept for)",
          "an id is any UUID, and few deliveries keep their body"),
    Right(409, r"(cancel|retry|delete)_job", r"job .* cannot be (cancelled|retried|deleted): it is ",
          "the state decides what can be done with a job"),
    Right(409, r"create_jobs?", r"this Idempotency-Key was used for another request",
          "a key belongs to the first request that had it", lambda case: "Idempotency-Key" in case.headers),
    Right(409, r"create_jobs?", r".*unique.key.*", "the caller asked for it: on_conflict is reject",
          _has("on_conflict", "unique_key")),
    Right(400, r"create_jobs?", r".*hard_timeout must be .* at least as long as timeout",
          "JSON Schema cannot compare two fields", _has("hard_timeout", "timeout")),
    Right(400, r"create_jobs?", r".*min_backoff must not be longer than max_backoff",
          "JSON Schema cannot compare two fields", _has("min_backoff", "max_backoff")),
    Right(400, r"create_jobs?", r".*unique_for needs a unique_key",
          "only some jobs have a unique rule of their own, which gives the key", _has("unique_for")),
    Right(400, r"create_jobs?", r".*on_conflict=\w+ needs a unique_key",
          "only some jobs have a unique rule of their own, which gives the key", _has("on_conflict")),
)  # fmt: skip


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Drop a failure that is one of RIGHT, or a wrong key that is refused because there were too many."""
    if isinstance(failure, IgnoredAuth) and "429" in failure.message:
        return False
    if not isinstance(failure, RejectedPositiveData):
        return True
    error = json.loads(response.content)["error"]
    return not any(
        right.status == response.status_code
        and re.fullmatch(right.operations, name_of(case))
        and re.match(right.message, error["message"])
        and right.holds(case)
        for right in RIGHT
    )


def name_of(case: Any) -> str:
    name: str = case.operation.definition.raw.get("operationId", "")
    return name
