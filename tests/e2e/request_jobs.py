"""The jobs of test_request_ids.py, run in processes of their own."""

import logging
from typing import Any

import dramatiq
import structlog

from callboard import Client, Fail, current_job, job

log = logging.getLogger("shop")


@job
def packs(by: str) -> None:
    log.info("packs", extra={"by": by})


@dramatiq.actor
def packs_plainly(by: str, _result: Any = None) -> str:
    log.info("packs", extra={"by": by})
    return by


@job
async def packs_async(by: str) -> None:
    structlog.get_logger("shop").info("packs", by=by)


@job
def takes_order(order: int) -> str | None:
    """Log by every kind of logger, and enqueue by every way that a job has."""
    task = current_job()
    log.info("takes", extra={"by": "logging"})
    structlog.get_logger("shop").info("takes", by="structlog")
    task.log.info("takes", by="job", request_id="its own")
    task.enqueue("packs", {"by": "current_job"})
    packs_async.enqueue(by="job.enqueue")
    packs_plainly.send(by="send")
    with Client.from_env() as client:
        client.enqueue_many("packs", [{"by": f"client {number}"} for number in range(order)])
    packs_plainly.send_with_options(args=("with callback",), on_success="packs_plainly")
    (packs_plainly.message("first") | packs_plainly.message("next")).run()  # type: ignore[no-untyped-call]
    group = dramatiq.group([packs_plainly.message("of group")])  # type: ignore[no-untyped-call]
    group.add_completion_callback(packs_plainly.message("after group"))  # type: ignore[no-untyped-call]
    group.run()  # type: ignore[no-untyped-call]
    return task.request_id


@job
def takes_push(event: str, delivery_id: str, payload: dict[str, Any]) -> str | None:
    log.info("takes", extra={"by": event})
    return current_job().request_id


@job
def breaks() -> None:
    raise Fail("sold out")
