"""Fuzz the HTTP API from its OpenAPI document: real processes, real servers, stateful.

    python -m tests.fuzz --seconds 600 [--seed 1]

It runs in .venv. Schemathesis runs in .venv-fuzz, with the rules in schemathesis.toml and hooks.py.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from callboard.jobs.webhooks.intake import source_request
from tests.e2e.stage import Stage, own_servers, own_stage, until

HERE = Path(__file__).parent
TOP = HERE.parents[1]
PROGRAM = TOP / ".venv-fuzz" / "bin" / "schemathesis"
SECRET_KEY = "only for this fuzz"
WEBHOOK_SECRET = "only for this fuzz, too"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=600, help="how long to fuzz")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="repeats a run's choices")
    asked = parser.parse_args()
    with own_servers() as servers:
        urls = servers.ensure()
        with own_stage(servers, urls.database_url, urls.redis_url) as stage:
            address = start(stage)
            status = fuzz(stage, address, asked.seconds, asked.seed)
            return report(stage) or status


def start(stage: Stage) -> str:
    """Start the API, a worker and a scheduler; return the API's address."""
    shutil.copy(HERE / "fuzz_jobs.py", stage.folder)
    settings: dict[str, Any] = {"jobs": "fuzz_jobs", "queues": "", "secret_key": SECRET_KEY}
    api = stage.start("api", port=0, **settings)
    address = str(until(lambda: api.events("api.listening"))[0]["url"])
    stage.worker(**settings)
    stage.start("scheduler", **settings)
    hook = {"name": "fuzz", "scheme": "github", "job": "anything", "secret": WEBHOOK_SECRET}
    stage.platform.intake(SECRET_KEY).create(source_request(hook))
    return address


def fuzz(stage: Stage, address: str, seconds: int, seed: int) -> int:
    """Run Schemathesis; return its exit code."""
    described = stage.folder / "openapi.json"
    described.write_text(json.dumps(narrowed(read(f"{address}/openapi.json"))))
    token = stage.platform.auth.create("fuzz", "operator")[1]
    command: list[str | Path] = [
        PROGRAM, "--config-file", HERE / "schemathesis.toml", "run", described, "--url", address,
        "--header", f"Authorization: Bearer {token}", "--max-time", str(seconds), "--seed", str(seed),
        "--report", "ndjson", "--report-ndjson-path", stage.folder / "report.ndjson",
    ]  # fmt: skip
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "FUZZ_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }  # fmt: skip
    print(f"fuzzing {address} for {seconds} s, seed {seed}", flush=True)
    return subprocess.run(command, cwd=stage.folder, env=environment, check=False).returncode


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with what only this server knows, so that every other refusal is a failure.

    A request that names no published job, or gives arguments that do not fit, is refused although the
    document allows it: the document of one server cannot name the jobs of all. And the default response goes,
    so that a status which an operation does not name is a failure.
    """
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"].pop("default", None)
    request = document["components"]["schemas"]["JobRequest"]
    request["examples"] = [{"name": "anything", "args": [1, "a"], "kwargs": {"b": None}, "delay": "10ms"}]
    request["anyOf"] = [
        {"properties": {"unchecked": {"const": True}}, "required": ["unchecked"]},
        {"properties": {"name": {"const": "anything"}}},
        {
            "properties": {
                "name": {"const": "report"},
                "args": {"maxItems": 0},
                "kwargs": {
                    "properties": {"account_id": {"type": "integer"}, "month": {"type": "string"}},
                    "required": ["account_id"],
                    "additionalProperties": False,
                },
            },
            "required": ["kwargs"],
        },
    ]
    return document


def read(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=30) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def report(stage: Stage) -> int:
    """Print how many requests each route answered, and how; return 1 if a process died or failed."""
    answers: Counter[str] = Counter()
    failures = []
    for process in stage.processes:
        for event in process.events("http.request"):
            answers[f"{event['method']} {event['route']} {event['status']}"] += 1
        failures += process.events("http.failed")
        if not process.alive:
            failures.append({"event": "process.died", "log": process.log.name})
    for answer, count in sorted(answers.items()):
        print(f"{count:>8,}  {answer}")
    print(f"{answers.total():>8,}  requests; jobs: {dict(sorted(stage.states().items()))}")
    print(*failures, sep="\n", end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
