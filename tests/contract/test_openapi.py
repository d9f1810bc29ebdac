"""The OpenAPI document is pinned: what clients rely on does not change by the way.

After a change that is meant: CALLBOARD_TEST_UPDATE=1 pytest tests/contract/test_openapi.py
"""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from callboard.api.app import create_app
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


def test_every_operation_says_what_it_is_for_and_how_it_fails(operations):
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for name, operation in operations.items():
        assert operation["description"], name
        assert operation["tags"], name
        shape = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert shape == {"$ref": "#/components/schemas/ErrorObject"}, name
        failures = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
        if "/readyz" in name:
            failures.pop("503")
        for answer in failures.values():
            assert answer["content"]["application/json"]["schema"] == shape, name


def test_every_operation_needs_a_key_except_the_open_ones(operations, document):
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for name, operation in operations.items():
        path = name.split()[1]
        assert operation.get("security") == (None if path in OPEN else [{"bearer": []}]), name
        assert path in OPEN or {"401", "403"} <= set(operation["responses"]), name


def test_every_reference_leads_somewhere(document):
    def references(part):
        if isinstance(part, dict):
            if "$ref" in part:
                yield part["$ref"]
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


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
    ]
