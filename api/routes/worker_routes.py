"""The route that lists the live workers."""

from dataclasses import replace

from fastapi import APIRouter, Response

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded_responses
from callboard.api.schemas import Page, WorkerObject, page_of, reply
from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.attempts.worker import Worker

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", response_model=Page[WorkerObject], responses=guarded_responses())
def list_workers(caller: Viewer) -> Response:
    """List the workers that hold a lease.

    A key that is restricted to a queue sees those that serve it, without their other queues. A key that is
    restricted to a job sees none.
    """
    live = caller.platform.workers.live()
    return reply(page_of(WorkerObject, live if not caller.key.confined else _visible(live, caller.key)))


def _visible(workers: list[Worker], key: ApiKey) -> list[Worker]:
    if key.job is not None:
        return []
    shown = [
        replace(worker, queues=[queue for queue in worker.queues if key.sees_queue(queue)])
        for worker in workers
    ]
    # A worker without queues serves all of them.
    return [now for now, before in zip(shown, workers, strict=True) if now.queues or not before.queues]
