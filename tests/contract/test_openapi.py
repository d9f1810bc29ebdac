"""The OpenAPI document is pinned: what clients rely on does not change by the way.

After a change that is meant: CALLBOARD_TEST_UPDATE=1 pytest tests/contract/test_openapi.py
"""

import json
import os
import re
from contextlib import closing
from pathlib import Path

import pytest

from callboard.api.app import create_app
from callboard.api.http.error_responses import STATUS
from callboard.jobs.platform import Platform

PINNED = Path(__file__).with_name("openapi.json")
OPEN = {"/healthz", "/readyz", "/webhooks/{source}"}


@pytest.fixture(scope="module")
def app():
    # Nothing connects before it is used.
    with closing(Platform("postgresql+psycopg://nowhere/none", "redis://nowhere")) as platform:
        yield create_app(platform, secret_key="of no use in this test")


@pytest.fixture(scope="module")
def document(app):
    return json.loads(app.state.openapi())


@pytest.fixture(scope="module")
def operations(document):
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def test_the_document_is_what_was_agreed(document):
    if os.environ.get("CALLBOARD_TEST_UPDATE"):
        PINNED.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    assert document == json.loads(PINNED.read_text())


def test_every_operation_says_what_it_is_for(operations):
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for name, operation in operations.items():
        assert operation["description"], name
        assert operation["tags"], name
        assert operation["operationId"].isidentifier(), name


def test_every_error_has_the_one_form_and_is_a_shared_response(operations, document):
    shape = {"$ref": "#/components/schemas/ErrorObject"}
    shared = document["components"]["responses"]
    for response in shared.values():
        assert response["content"]["application/json"]["schema"] == shape
    for name, operation in operations.items():
        failures = {status: answer for status, answer in operation["responses"].items() if status[0] in "45d"}
        assert {"408", "500", "default"} <= set(failures), name
        if "/readyz" in name:
            failures.pop("503")
        for status, answer in failures.items():
            assert set(answer) == {"$ref"}, (name, status)
    used = {text.rsplit("/", 1)[1] for text in references(operations) if "/responses/" in text}
    assert used == set(shared)


def test_every_code_is_described_with_its_status(document):
    examples = [
        (code, name)
        for name, response in document["components"]["responses"].items()
        for code in response["content"]["application/json"]["examples"]
    ]
    assert sorted(code for code, _ in examples) == sorted(STATUS)
    assert document["components"]["schemas"]["ErrorCode"]["enum"] == list(STATUS)


def test_every_operation_needs_a_key_except_the_open_ones(operations, document):
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for name, operation in operations.items():
        path = name.split()[1]
        assert operation["security"] == ([] if path in OPEN else [{"bearer": []}]), name
        assert path in OPEN or {"401", "403", "429", "503"} <= set(operation["responses"]), name


def test_an_operation_with_a_body_refuses_too_much_and_other_types(operations):
    for name, operation in operations.items():
        refuses = {"413", "415"} <= set(operation["responses"])
        assert refuses == ("requestBody" in operation), name


def test_every_response_has_its_headers(operations, document):
    shared = document["components"]["responses"]
    for name, operation in operations.items():
        for status, answer in operation["responses"].items():
            response = shared[answer["$ref"].rsplit("/", 1)[1]] if "$ref" in answer else answer
            assert "X-Request-ID" in response["headers"], (name, status)
    assert "WWW-Authenticate" in shared["Unauthorized"]["headers"]
    assert all("Retry-After" in shared[name]["headers"] for name in ("RateLimited", "Unavailable"))
    assert "Location" in operations["POST /v1/jobs"]["responses"]["201"]["headers"]
    for path in ("/v1/jobs", "/v1/jobs/batch"):
        assert "Idempotency-Replayed" in operations[f"POST {path}"]["responses"]["200"]["headers"]


def references(part):
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere(document):
    known = {
        f"#/components/{kind}/{name}" for kind, parts in document["components"].items() for name in parts
    }
    assert set(references(document)) <= known


def test_names_generate_well(document):
    """A generator names a nested object or enum after its place, such as JobRequestOnConflictType0."""

    def unnamed(part, path):
        if isinstance(part, dict):
            if "enum" in part or (path and "properties" in part and part.get("type") == "object"):
                yield path
            for key, value in part.items():
                yield from unnamed(value, f"{path}/{key}")
        elif isinstance(part, list):
            for value in part:
                yield from unnamed(value, path)

    schemas = document["components"]["schemas"]
    assert all(re.fullmatch("([A-Z][a-z]+)+", name) for name in schemas), sorted(schemas)
    for name, schema in schemas.items():
        for key, value in schema.items():
            assert list(unnamed(value, f"{name}/{key}")) == []
    assert list(unnamed(document["paths"], "")) == []


def test_the_document_has_a_licence_and_a_server(document):
    assert document["info"]["license"] == {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_the_job_object_has_the_fields_of_the_interface(document):
    assert list(document["components"]["schemas"]["JobObject"]["properties"]) == [
        "id",
        "name",
        "queue",
        "state",
        "priority",
        "args",
        "kwargs",
        "attempt",
        "max_attempts",
        "run_at",
        "enqueued_at",
        "started_at",
        "finished_at",
        "progress",
        "progress_note",
        "result",
        "errors",
        "tags",
        "source",
        "source_id",
        "unique_key",
        "worker_id",
        "timeout",
        "cancel_requested_at",
        "crash_count",
        "hard_timeout",
        "options",
        "limit_key",
        "solo",
        "put_off",
        "put_off_reason",
        "request_id",
    ]
