"""Two services with a job of the same name, on one database and one queue."""

import subprocess
import sys

from callboard.jobs.model.states import JobState
from tests.e2e.stage import PATIENCE, Stage, until

PLAIN = """
import dramatiq
from callboard import job
from callboard.dramatiq import CallboardBroker

if dramatiq.broker.global_broker is None:
    dramatiq.set_broker(CallboardBroker())

@dramatiq.actor
def notify_all(order):
    import os
    with open(os.environ["CALLBOARD_TEST_LEDGER"], "a") as file:
        file.write("billing\\n")

@job
def charge(order: int) -> str:
    notify_all.send(order)
    return "charged"
"""
NAMED = """
from callboard import job

@job(namespace="shop")
def notify_all(order: int, to: str) -> str:
    return f"shop {to}"
"""
SEND = """
from callboard import Client
import billing_jobs
message = billing_jobs.notify_all.send(1)
assert message.actor_name == "notify_all"
with Client.from_env() as client:
    found = [client.enqueue("notify_all", {"order": 2}).name, client.enqueue("billing.notify_all", {"order": 3}).name,
             client.enqueue("shop.notify_all", {"order": 4, "to": "ada"}).name,
             billing_jobs.charge.enqueue(5).name]
print(*found)
"""


def test_the_jobs_of_two_services_keep_apart(stage: Stage) -> None:
    (stage.folder / "billing_jobs.py").write_text(PLAIN)
    (stage.folder / "shop_jobs.py").write_text(NAMED)
    stage.start("scheduler")
    stage.worker(jobs="shop_jobs")
    done = subprocess.run(
        [sys.executable, "-c", SEND], cwd=stage.folder, capture_output=True, text=True, timeout=PATIENCE,
        env=stage.environment(jobs="billing_jobs", app="billing"), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "billing.notify_all",
        "billing.notify_all",
        "shop.notify_all",
        "billing.charge",
    ]
    stage.worker(jobs="billing_jobs", app="billing")
    until(lambda: set(stage.states()) == {str(JobState.SUCCEEDED)})
    # Sent, enqueued twice, and sent by the job `charge`.
    assert stage.starts() == {"billing": 4}
    names = {version.type.name for version in stage.platform.catalogue.versions()}
    assert {"billing.notify_all", "billing.charge", "shop.notify_all"} <= names
    assert "notify_all" not in names


def test_a_worker_says_that_another_module_defines_its_job(stage: Stage) -> None:
    # The same signature makes the same version, whose row can name one module only.
    for module in ("first_service", "second_service"):
        source = "from callboard import job\n\n@job\ndef notify_shared(order: int) -> None: ...\n"
        (stage.folder / f"{module}.py").write_text(source)
    stage.worker(jobs="first_service")
    second = stage.worker(jobs="second_service")
    [told] = until(lambda: second.events("job.name_shared"))
    assert (told["job"], told["module"], told["other"]) == (
        "notify_shared",
        "second_service",
        "first_service",
    )
